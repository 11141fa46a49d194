"""The paper's figures as data: whole, in range, and equal where two tables print the same experiment."""

from glia.evaluation.paper import OURS, PAPER, Figures


def cell(table: int, row: str, column: str) -> Figures:
    return PAPER[table].rows[row][PAPER[table].columns.index(column)]


def test_every_row_has_a_figure_for_every_column() -> None:
    shapes = {number: (len(table.rows), len(table.columns)) for number, table in PAPER.items()}
    assert shapes == {1: (14, 8), 2: (7, 6), 3: (12, 2), 4: (3, 2), 5: (4, 2), 6: (7, 2)}
    for table in PAPER.values():
        assert all(len(row) == len(table.columns) for row in table.rows.values())
        figures = [figure for row in table.rows.values() for cell in row for figure in cell if figure is not None]
        assert all(0 < figure < 1 for figure in figures)


def test_the_ends_of_the_rows_are_where_the_paper_prints_them() -> None:
    assert cell(1, OURS, "live") == (0.983, 0.984) and cell(1, OURS, "flive") == (0.583, 0.688)
    assert cell(1, "LoDa (9M)", "csiq") == (None, None)
    assert cell(2, OURS, "csiq to live") == (0.953, None) and cell(2, "LoDa", "live to csiq") == (None, None)
    assert cell(3, "60% Ours", "livec") == (0.890, 0.901)
    assert cell(4, "GLR and LGF", "csiq") == (0.967, 0.975)  # this table prints PLCC first
    assert cell(5, "x_d guides x_s", "koniq") == (0.936, 0.944)
    assert cell(6, "Linear probe", "kadid") == (0.677, 0.699)


def test_the_whole_model_has_the_same_figures_in_every_table() -> None:
    def same(table: int, row: str, column: str) -> bool:
        return cell(table, row, column) == cell(1, OURS, column)

    assert all(same(4, "GLR and LGF", column) for column in PAPER[4].columns)
    assert all(same(5, "x_s guides x_d", column) for column in PAPER[5].columns)
    assert all(same(6, OURS, column) for column in PAPER[6].columns)
