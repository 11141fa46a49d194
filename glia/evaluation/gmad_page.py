"""The page of ``glia-eval gmad``: four columns of picture pairs, as in the paper's Fig. 4, in one file."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from glia.evaluation.gmad import Duel, Pool
from glia.evaluation.metrics import srcc
from glia.evaluation.pages import inline_image, style
from glia_runtime.decode import decode_picture
from glia_runtime.markup import as_text, common_folder, in_thousandths, link, terms, write_page

_TITLE = "gMAD competition"
_LEAD = """<p>Pictures that one model finds equally bad, or equally good, and the other most different.
Where you see no difference the first is right, where you see one the second is.</p>
"""


def write_duels(pool: Pool, duels: Sequence[Duel], folder: Path, path: Path) -> None:
    """Write the page to `path`; links to the pictures are relative to `folder`, where it will lie.

    Raises:
        ImageError: a picture was removed since it was scored.
    """
    panels = "\n".join(_panel(letter, duel, pool, folder) for letter, duel in zip("abcd", duels, strict=True))
    main = f'<div class="panels">\n{panels}\n</div>\n'
    write_page(path, _TITLE, [main], lead=_LEAD + _summary(pool), style=style())


def _summary(pool: Pool) -> str:
    figures = {
        "pictures": f"{len(pool.paths):,}",
        "could not be scored": f"{len(pool.failures):,}",
        "SRCC of the two": f"{srcc(*pool.qualities):.3f}",
    }
    models = "".join(
        f"<div><dt>{_dot(number)}{as_text(rival.name)}</dt><dd>{as_text(rival.about)}</dd></div>"
        for number, rival in enumerate(pool.rivals)
    )
    return f'{terms("figures", figures)}\n<dl class="card">{models}</dl>'


def _panel(letter: str, duel: Duel, pool: Pool, folder: Path) -> str:
    defender, attacker = (as_text(pool.rivals[number].name) for number in (duel.defender, 1 - duel.defender))
    judged = "bad" if duel.level == "low" else "good"
    pairs = "\n".join(f'<div class="pair">{"".join(_figures(pair, pool, folder))}</div>' for pair in duel.pairs)
    return (
        f'<section aria-labelledby="{letter}"><h2 id="{letter}">({letter}) '
        f"{defender} fixed at {duel.level} quality</h2>\n"
        f"<p><b>{defender}</b> finds both {judged}: they are among its {duel.pictures:,} "
        f"{'lowest' if duel.level == 'low' else 'highest'}. <b>{attacker}</b> finds the upper one "
        f"better.</p>\n<div>{pairs}</div></section>"
    )


def _figures(pair: tuple[int, int], pool: Pool, folder: Path) -> Iterator[str]:
    """The picture that the attacker finds better, and below it the worse one."""
    common = common_folder(pool.paths)
    for index in reversed(pair):
        path = pool.paths[index]
        name = path.removeprefix(common)
        scores = "".join(
            f"<div><dt>{_dot(number)}{as_text(rival.name)}</dt>"
            f"<dd>{in_thousandths(pool.scores[number, index], rival.scale)}</dd></div>"
            for number, rival in enumerate(pool.rivals)
        )
        yield (
            f'<figure><a href="{link(path, folder)}">{inline_image(decode_picture(path), name)}</a>'
            f'<figcaption><dl class="scores">{scores}</dl><span class="name">{as_text(name)}</span></figcaption>'
            "</figure>\n"
        )


def _dot(number: int) -> str:
    return f'<span class="dot {("attacker", "defender")[number]}"></span>'
