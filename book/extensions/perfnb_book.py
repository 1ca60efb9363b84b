"""Two small repairs for this book: refuse an unstaged source, and drop the unused thebe scripts."""

import sys
from pathlib import Path

STAGED_PAGES = ("book/build.md", "book/runs.md")
REFUSAL = (
    'This folder holds the book\'s sources without executed chapters: run "make book", which runs '
    "the chapters, stages them and builds the book."
)


def refuse_unstaged(app) -> None:
    """Stop the build with one line when the generated pages are not beside the prose."""
    if not all((Path(app.srcdir) / page).is_file() for page in STAGED_PAGES):
        sys.stderr.write(REFUSAL + "\n")
        raise SystemExit(2)


def drop_thebe(app, pagename, templatename, context, doctree) -> None:
    """Remove thebe's scripts: they are emitted twice, and they name an outside server."""
    scripts = context.get("script_files", [])
    context["script_files"] = [script for script in scripts if not _is_thebe(script)]


def _is_thebe(script) -> bool:
    body = getattr(script, "attributes", {}).get("body") or ""
    filename = getattr(script, "filename", None) or ""
    return "THEBE_JS_URL" in body or "thebe" in str(filename)


def setup(app) -> dict:
    """Register with Sphinx."""
    refuse_unstaged(app)
    app.connect("html-page-context", drop_thebe, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
