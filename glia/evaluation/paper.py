"""The figures that the paper prints in its Tables 1 to 6 (arXiv 2605.17748v1), as printed.

Datasets have the names of `glia.data.open_dataset`. Bold, underlines and citation numbers are left out. Table 4's check
marks are lost in the text version; Section 3.6 says which row has LGF alone ("outperforming the LoDa model").
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

OURS = "Ours"


class Figures(NamedTuple):
    """SRCC and PLCC; None where the paper prints none."""

    srcc: float | None = None
    plcc: float | None = None


@dataclass(frozen=True)
class PaperTable:
    """One table.

    Attributes:
        title: its caption.
        columns: names of datasets, "koniq"; where another one is tested on, "flive to koniq".
        rows: figures by the row's label, as many as there are columns.
    """

    title: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[Figures, ...]]


def _table(title: str, columns: tuple[str, ...], text: str, order: tuple[str, ...] = ("srcc", "plcc")) -> PaperTable:
    """A table of rows "label | figures", the figures of each column in the order printed; "-" is a missing one."""
    rows = {}
    for line in text.strip().splitlines():
        label, printed = (part.strip() for part in line.split("|"))
        values = [None if value == "-" else float(value) for value in printed.split()]
        cells = (values[place : place + len(order)] for place in range(0, len(values), len(order)))
        rows[label] = tuple(Figures(**dict(zip(order, cell, strict=True))) for cell in cells)
    return PaperTable(title, columns, rows)


PAPER: dict[int, PaperTable] = {
    1: _table(
        "Performance comparison measured by medians of SRCC and PLCC",
        ("live", "csiq", "tid2013", "kadid", "koniq", "livec", "spaq", "flive"),
        """
        ILNIQE        | 0.902 0.906 0.822 0.865 0.521 0.648 0.534 0.558 0.523 0.537 0.508 0.508 0.713 0.712 0.294 0.332
        DBCNN         | 0.968 0.971 0.946 0.959 0.816 0.865 0.851 0.856 0.875 0.884 0.851 0.869 0.911 0.915 0.545 0.551
        MetaIQA       | 0.960 0.959 0.899 0.908 0.856 0.868 0.762 0.775 0.887 0.856 0.835 0.802 -     -     0.540 0.507
        P2P-BM        | 0.959 0.958 0.899 0.902 0.862 0.856 0.840 0.849 0.872 0.885 0.844 0.842 -     -     0.526 0.598
        HyperIQA      | 0.962 0.966 0.923 0.942 0.840 0.858 0.852 0.845 0.906 0.917 0.859 0.882 0.911 0.915 0.544 0.602
        MUSIQ         | 0.940 0.911 0.871 0.893 0.773 0.815 0.875 0.872 0.916 0.928 0.702 0.746 0.918 0.921 0.566 0.661
        TReS          | 0.969 0.968 0.922 0.942 0.863 0.883 0.859 0.858 0.915 0.928 0.846 0.877 -     -     0.544 0.625
        DAIQA         | 0.969 0.972 -     -     0.863 0.883 0.930 0.925 0.915 0.925 0.840 0.867 0.911 0.922 -     -
        Re-IQA (48M)  | 0.970 0.971 0.945 0.960 0.804 0.861 0.872 0.885 0.914 0.923 0.840 0.854 0.918 0.925 0.575 0.675
        QMamba (50M)  | 0.959 0.958 0.916 0.935 0.950 0.952 0.923 0.938 0.928 0.943 0.863 0.903 0.927 0.933 0.574 0.672
        LIQE (151M)   | 0.970 0.951 0.943 0.946 -     -     0.930 0.931 0.919 0.908 0.904 0.910 -     -     -     -
        LoDa (9M)     | 0.975 0.979 -     -     0.869 0.901 0.931 0.936 0.932 0.944 0.876 0.899 0.925 0.928 0.578 0.679
        SHDIQA (24M)  | 0.982 0.984 0.962 0.973 -     -     0.937 0.940 0.937 0.948 0.909 0.922 0.930 0.932 0.639 0.735
        Ours          | 0.983 0.984 0.967 0.975 0.913 0.923 0.939 0.943 0.940 0.948 0.899 0.913 0.932 0.934 0.583 0.688
        """,
    ),
    2: _table(
        "SROCC results on Cross-Dataset evaluation",
        ("flive to koniq", "flive to livec", "livec to koniq", "koniq to livec", "live to csiq", "csiq to live"),
        """
        DBCNN   | 0.716 0.724 0.754 0.755 0.758 0.877
        P2P-BM  | 0.755 0.738 0.740 0.770 0.712 -
        TreS    | 0.713 0.740 0.733 0.786 0.761 -
        DEIQT   | 0.733 0.781 0.744 0.794 0.781 0.932
        LoDa    | 0.763 0.805 0.745 0.811 -     -
        SHDIQA  | 0.723 0.791 0.782 0.819 0.789 0.943
        Ours    | 0.785 0.816 0.802 0.835 0.823 0.953
        """,
        order=("srcc",),
    ),
    3: _table(
        "Data-efficient learning validation with the training set containing 20%, 40% and 60% images",
        ("koniq", "livec"),
        """
        20% HyperIQA  | 0.869 0.873 0.776 0.809
        20% DEIQT     | 0.888 0.908 0.792 0.822
        20% LoDa      | 0.907 0.923 0.815 0.854
        20% Ours      | 0.917 0.934 0.843 0.857
        40% HyperIQA  | 0.892 0.908 0.832 0.849
        40% DEIQT     | 0.903 0.922 0.838 0.855
        40% LoDa      | 0.922 0.935 0.849 0.879
        40% Ours      | 0.932 0.944 0.873 0.893
        60% HyperIQA  | 0.901 0.914 0.843 0.862
        60% DEIQT     | 0.914 0.931 0.848 0.877
        60% LoDa      | 0.928 0.940 0.869 0.891
        60% Ours      | 0.935 0.947 0.890 0.901
        """,
    ),
    4: _table(
        "Ablation experiments for compositions of GLIA",
        ("csiq", "koniq"),
        """
        GLR          | 0.951 0.942 0.939 0.931
        LGF          | 0.969 0.961 0.947 0.937
        GLR and LGF  | 0.975 0.967 0.948 0.940
        """,
        order=("plcc", "srcc"),
    ),
    5: _table(
        "Ablation experiments for the guidance prior",
        ("livec", "koniq"),
        """
        x_s guides x_s  | 0.901 0.909 0.932 0.939
        x_d guides x_d  | 0.876 0.899 0.930 0.943
        x_s guides x_d  | 0.899 0.913 0.940 0.948
        x_d guides x_s  | 0.883 0.894 0.936 0.944
        """,
    ),
    6: _table(
        "Ablation experiments on Fine-tune methods",
        ("kadid", "koniq"),
        """
        Linear probe    | 0.677 0.699 0.794 0.831
        Full fine-tune  | 0.909 0.915 0.929 0.940
        Adapter         | 0.912 0.921 0.926 0.939
        Lora            | 0.913 0.921 0.921 0.934
        VPT             | 0.889 0.900 0.919 0.932
        LoDa            | 0.931 0.936 0.932 0.944
        Ours            | 0.939 0.943 0.940 0.948
        """,
    ),
}
"""By number."""
