"""Tables of executed chapters for paper."""

import math
import re

LINE = 105  # characters of a table's small print
MINUS = re.compile(r"(?<!\w)-(?=\d)")  # a hyphen before a number, where LaTeX would break a line
LONG_CELL = 120  # from here on a table is set with rows that may go on upon the next page


def to_markdown(table) -> str:
    """Write an HTML table, as BeautifulSoup has it, as Markdown that LaTeX sets well.

    Cells that span others stand in each of them. A table with sentences in its cells gets widths
    of columns, without which LaTeX would neither wrap them nor break the table at a page's end.
    """
    grid = _grid(table)
    width, height = (1 + max(place[axis] for place in grid) for axis in (1, 0))
    head = table.find("thead")
    n_head = len(head.find_all("tr")) if head else 0
    above = [[grid.get((i, j), "") for i in range(n_head)] for j in range(width)]
    named = [" ".join(filter(None, words)).replace("_", " ") for words in above]
    body = [[grid.get((i, j), "") for j in range(width)] for i in range(n_head, height)]
    lines = [named, ["---"] * width, *body]
    text = fill_cells("\n".join("| " + " | ".join(line) + " |" for line in lines))
    if max((len(cell) for line in body for cell in line), default=0) < LONG_CELL:
        return text
    widths = " ".join(str(one) for one in _column_widths([named, *body]))
    return f"```{{table}}\n:class: longtable\n:widths: {widths}\n\n{text}\n```"


def _grid(table) -> dict[tuple[int, int], str]:
    """Return the text at each row and column."""
    grid: dict[tuple[int, int], str] = {}
    rows = table.find_all("tr")
    for i, row in enumerate(rows):
        j = 0
        for cell in row.find_all(["th", "td"]):
            while (i, j) in grid:
                j += 1
            down, across = (int(cell.get(name, 1)) for name in ("rowspan", "colspan"))
            text = MINUS.sub("−", cell.get_text(" ", strip=True)).replace("|", r"\|")
            grid |= {(i + a, j + b): text for a in range(down) for b in range(across)}
            j += across
    return grid


def _column_widths(lines: list[list[str]]) -> list[int]:
    """Shares of the line for columns of sentences: a word fits, long text gets more, not all."""
    columns = list(zip(*lines, strict=True))
    words = [
        max(len(word) for cell in column for word in f"{cell} .".split()) for column in columns
    ]
    longest = [max(map(len, column)) for column in columns]
    more = [math.sqrt(max(long - word, 0)) for long, word in zip(longest, words, strict=True)]
    spare = max(LINE - sum(words), 0) / max(sum(more), 1)
    return [round(word + spare * one) for word, one in zip(words, more, strict=True)]


def fill_cells(text: str) -> str:
    """Put a space that does not break into empty cells: LaTeX would make their rows too high."""
    return re.sub(r"(?m)^\|.*\|$", lambda row: re.sub(r"\| +(?=\|)", "| &nbsp; ", row[0]), text)
