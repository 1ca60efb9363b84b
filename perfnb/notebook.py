"""nbformat, loaded in a tenth of the time: `from perfnb.notebook import nbformat`.

What checks notebooks would build a grammar of web addresses first, two seconds of work in every
job of a study. No notebook has a field of that kind, and the check can do without.
"""

import sys

UNUSED = "rfc3987_syntax"
_is_loaded = UNUSED in sys.modules
if not _is_loaded:
    sys.modules[UNUSED] = None  # to import it is an ImportError, which jsonschema expects
try:
    import nbformat  # noqa: F401 (offered)
finally:
    if not _is_loaded:
        del sys.modules[UNUSED]
