"""Datasets laid out on disk in their authors' own formats, with one tiny picture linked under every name.

The labels are made up in the true number, or the true ones, where the lists of
github.com/icbcbicc/IQA-Dataset lie beside the checkout.
"""

import csv
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from openpyxl import Workbook
from PIL import Image
from scipy.io import savemat

TRUE_LABELS = Path(__file__).resolve().parents[3] / "shared" / "labels"
PICTURE = np.add.outer(np.arange(24), np.arange(32))[..., None].repeat(3, axis=2).astype(np.uint8)  # JPEG keeps it


@dataclass(frozen=True)
class Label:
    """One row: the picture's path below its folder, its reference's file or "", and its score."""

    path: str
    reference: str
    score: float


Labels = list[Label]


def true_labels(title: str) -> Labels:
    """The labels of a list, paths as the dataset has them."""
    with (TRUE_LABELS / f"{title}.csv").open(newline="") as file:
        return [
            Label(row["dis_img_path"].partition("/")[2], Path(row.get("ref_img_path", "")).name, float(row["score"]))
            for row in csv.DictReader(file)
        ]


def link_pictures(folder: Path, names: Iterable[str]) -> None:
    """Make a file under each name, relative to `folder`: the same picture, in the format of its suffix."""
    sources: dict[str, Path] = {}
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        suffix = Path(name).suffix.lower()
        if suffix not in sources:
            sources[suffix] = folder / f"unlisted{suffix}"
            Image.fromarray(PICTURE).save(sources[suffix])
        path = folder / name
        if not path.parent.exists():
            path.parent.mkdir(parents=True)
        os.link(sources[suffix], path)


def write_csv(path: Path, header: str, rows: Iterable[Iterable[object]]) -> None:
    with path.open("w", newline="") as file:
        file.write(header + "\n")
        csv.writer(file).writerows(rows)


def write_xlsx(path: Path, rows: Iterable[Iterable[object]], sheet: str = "Sheet1") -> None:
    book = Workbook(write_only=True)
    book.create_sheet("readme" if sheet != "Sheet1" else sheet)
    page = book[sheet] if sheet in book.sheetnames else book.create_sheet(sheet)
    for row in rows:
        page.append(list(row))
    book.save(path)


def cells(names: Iterable[str]) -> np.ndarray:
    """A MATLAB cell array of text, one row."""
    return np.array([list(names)], dtype=object)


def level_score(level: int, place: int, low: float, high: float, higher_is_better: bool) -> float:
    """A made-up score that falls with the level, less than one step apart from others of its level."""
    share = (level - 1 + (place % 7) / 8) / 5
    return round(high - share * (high - low) if higher_is_better else low + share * (high - low), 4)


LIVE_FOLDERS = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}


def lay_live(root: Path, labels: Labels, realigned: bool = True) -> None:
    places = [f"{folder}/img{number}.bmp" for folder, count in LIVE_FOLDERS.items() for number in range(1, count + 1)]
    known = {label.path: label for label in labels}
    scores = np.array([[known[place].score if place in known else 0.0 for place in places]])
    originals = np.array([[place not in known for place in places]], dtype=np.uint8)
    root.mkdir(parents=True)
    if realigned:
        table = {"dmos_new": scores, "dmos_std": np.ones_like(scores), "orgs": originals}
        savemat(root / "dmos_realigned.mat", table)
    else:
        savemat(root / "dmos.mat", {"dmos": scores, "orgs": originals})
    names = cells(known[place].reference if place in known else "bikes.bmp" for place in places)
    savemat(root / "refnames_all.mat", {"refnames_all": names})
    link_pictures(root, places)


def made_up_live() -> Labels:
    places = [(folder, number) for folder, count in LIVE_FOLDERS.items() for number in range(1, count + 1)]
    kept = [place for index, place in enumerate(places) if index * 203 // 982 == (index + 1) * 203 // 982]
    return [
        Label(f"{folder}/img{number}.bmp", f"reference{index % 29}.bmp", round(-2.6 + index * 0.14, 4))
        for index, (folder, number) in enumerate(kept)
    ]


CSIQ_TYPES = {
    "AWGN": "noise",
    "BLUR": "blur",
    "contrast": "contrast",
    "fnoise": "fnoise",
    "JPEG": "jpeg",
    "jpeg2000": "jpeg 2000",
}


def lay_csiq(root: Path, labels: Labels) -> None:
    """As its authors have it: a workbook, and a folder per type whose name has the case of its own."""
    rows: list[list[object]] = [["CSIQ", None], [], []]  # the table does not begin in the first cell
    rows.append([None, None, None, "image", "dst_idx", "dst_type", "dst_lev", "dmos_std", "dmos"])
    for label in labels:
        image, kind, level, _ = Path(label.path).name.rsplit(".", 3)
        number = list(CSIQ_TYPES).index(kind) + 1
        called = int(image) if image.isdigit() else image
        rows.append([None, None, None, called, number, CSIQ_TYPES[kind], int(level), 0.1, label.score])
    root.mkdir(parents=True)
    write_xlsx(root / "csiq.DMOS.xlsx", rows, "all_by_image")
    names = (Path(label.path).name for label in labels)
    link_pictures(root / "dst_imgs", (f"{name.rsplit('.', 3)[1].lower()}/{name}" for name in names))


def lay_csiq_flat(root: Path, labels: Labels, folder: str = "dst_imgs_all") -> None:
    """As HyperIQA has it: a text file, all pictures in one folder."""
    names = [Path(label.path).name for label in labels]
    link_pictures(root / folder, names)
    rows = (f"{name} {label.score:.6f}\n" for name, label in zip(names, labels, strict=True))
    (root / "csiq_label.txt").write_text("".join(rows))


def made_up_csiq() -> Labels:
    series = [(reference, kind) for kind in CSIQ_TYPES for reference in range(30)]
    labels = []
    for place, (reference, kind) in enumerate(series):
        # 116 pictures of changed contrast: four levels of 26 references, three of the other four.
        levels = (4 if reference < 26 else 3) if kind == "contrast" else 5
        for level in range(1, levels + 1):
            name = f"{1600 + reference}.{kind}.{level}.png"
            labels.append(Label(name, f"{1600 + reference}.png", level_score(level, place, 0, 1, False)))
    return labels


def lay_tid2013(root: Path, labels: Labels) -> None:
    """Names in the list begin with a capital, those of most pictures do not."""
    names = [Path(label.path).name for label in labels]
    link_pictures(root / "distorted_images", names)
    listed = (name.capitalize() for name in names)
    rows = (f"{label.score:.5f} {name}\r\n" for name, label in zip(listed, labels, strict=True))
    (root / "mos_with_names.txt").write_text("".join(rows), newline="")


def made_up_tid2013() -> Labels:
    return [
        Label(f"{'I' if r == 25 else 'i'}{r:02}_{k:02}_{v}.bmp", f"I{r:02}.BMP", level_score(v, r * k, 0, 9, True))
        for r in range(1, 26)
        for k in range(1, 25)
        for v in range(1, 6)
    ]


def lay_kadid(root: Path, labels: Labels) -> None:
    names = [Path(label.path).name for label in labels]
    link_pictures(root / "images", [*names, *{label.reference for label in labels}])
    rows = ((name, label.reference, label.score, 0.5) for name, label in zip(names, labels, strict=True))
    write_csv(root / "dmos.csv", "dist_img,ref_img,dmos,var", rows)


def made_up_kadid() -> Labels:
    return [
        Label(f"I{r:02}_{k:02}_{v:02}.png", f"I{r:02}.png", level_score(v, r * k, 1, 5, True))
        for r in range(1, 82)
        for k in range(1, 26)
        for v in range(1, 6)
    ]


def lay_livec(root: Path, labels: Labels) -> None:
    names = [Path(label.path).name for label in labels]
    practice = [f"t{number}.bmp" for number in range(1, 8)]
    link_pictures(root / "Images", [*names, *(f"trainingImages/{name}" for name in practice)])
    (root / "Data").mkdir()
    savemat(root / "Data" / "AllImages_release.mat", {"AllImages_release": cells([*practice, *names]).T})
    scores = np.array([[50.0] * 7 + [label.score for label in labels]])
    savemat(root / "Data" / "AllMOS_release.mat", {"AllMOS_release": scores})
    savemat(root / "Data" / "AllStdDev_release.mat", {"AllStdDev_release": np.ones_like(scores)})


def true_livec() -> Labels:
    """The list lacks one of the 1162 pictures."""
    return [*true_labels("LIVE_Challenge"), Label("unknown.bmp", "", 50.0)]


def made_up_livec() -> Labels:
    return [Label(f"{place + 3}.{'JPG' if place % 50 else 'bmp'}", "", 3.4 + place * 0.076) for place in range(1162)]


def lay_koniq(root: Path, labels: Labels) -> None:
    names = [Path(label.path).name for label in labels]
    link_pictures(root / "1024x768", names)
    rows = []
    for name, label in zip(names, labels, strict=True):
        whole, part = divmod(label.score, 1)
        votes = [0] * 6
        votes[int(whole)] += round(100 * (1 - part))
        votes[min(int(whole) + 1, 5)] += round(100 * part)
        rows.append((name, *votes[1:], 100, label.score, 0.5, round(25 * (label.score - 1), 4)))
    write_csv(root / "koniq10k_scores_and_distributions.csv", KONIQ_HEADER, rows)


KONIQ_HEADER = '"image_name","c1","c2","c3","c4","c5","c_total","MOS","SD","MOS_zscore"'


def lay_koniq_sets(root: Path, labels: Labels) -> None:
    """The authors' other file: shares of the votes, a MOS from 0 to 100, and 7058, 1000 and 2015 pictures."""
    names = [Path(label.path).name for label in labels]
    sets = ["training"] * 7058 + ["validation"] * 1000 + ["test"] * 2015
    rows = [(name, 0, 0, 1, 0, 0, 100, 50, 0.5, chosen) for name, chosen in zip(reversed(names), sets, strict=True)]
    write_csv(root / "koniq10k_distributions_sets.csv", "image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,set", rows)


def made_up_koniq() -> Labels:
    return [Label(f"{10000000 + place}.jpg", "", round(1.1 + 3.2 * place / 10073, 6)) for place in range(10073)]


def lay_spaq(root: Path, labels: Labels) -> None:
    names = [Path(label.path).name for label in labels]
    link_pictures(root / "TestImage", names)
    (root / "Annotations").mkdir()
    header = ("Image name", "MOS", "Brightness", "Colorfulness", "Contrast", "Noisiness", "Sharpness")
    rows = ((name, label.score, 1, 2, 3, 4, label.score) for name, label in zip(names, labels, strict=True))
    write_xlsx(root / "Annotations" / "MOS and Image attribute scores.xlsx", (header, *rows))


def made_up_spaq() -> Labels:
    return [Label(f"{place:05}.jpg", "", round(2 + 94 * place / 11125, 2)) for place in range(1, 11126)]


def lay_flive(root: Path, labels: Labels) -> None:
    link_pictures(root / "database", (label.path for label in labels))
    rows = ((label.path, label.score, "[1.0 2.0]", place % 4 == 0) for place, label in enumerate(labels))
    write_csv(root / "labels_image.csv", "name,mos,zscores,is_valid", rows)


def made_up_flive() -> Labels:
    folders = ("voc_emotic_ava", "EE371R", "blur_dataset")
    return [
        Label(f"{folders[place % 3]}/AVA__{place}.jpg", "", round(100 * place / 39810, 4)) for place in range(1, 39811)
    ]


@dataclass(frozen=True)
class Tree:
    """How a dataset is laid out, the labels to lay it out with, and what must come out."""

    lay: Callable[[Path, Labels], None]
    made_up: Callable[[], Labels]
    true: Callable[[], Labels] | None
    pictures: int
    references: int
    trained: int  # references, of each split
    ends: tuple[float, float]
    higher_is_better: bool = True


TREES = {
    "live": Tree(lay_live, made_up_live, lambda: true_labels("LIVE"), 779, 29, 23, (0, 100), False),
    "csiq": Tree(lay_csiq, made_up_csiq, lambda: true_labels("CSIQ"), 866, 30, 24, (0, 1), False),
    "tid2013": Tree(lay_tid2013, made_up_tid2013, lambda: true_labels("TID2013"), 3000, 25, 20, (0, 9)),
    "kadid": Tree(lay_kadid, made_up_kadid, lambda: true_labels("KADID-10k"), 10125, 81, 65, (1, 5)),
    "livec": Tree(lay_livec, made_up_livec, true_livec, 1162, 1162, 930, (0, 100)),
    "koniq": Tree(lay_koniq, made_up_koniq, lambda: true_labels("KonIQ-10k"), 10073, 10073, 8058, (1, 5)),
    "spaq": Tree(lay_spaq, made_up_spaq, lambda: true_labels("SPAQ"), 11125, 11125, 8900, (0, 100)),
    "flive": Tree(lay_flive, made_up_flive, None, 39810, 39810, 31848, (0, 100)),
}
