"""The earlier name of `skindualgen.marks`; it goes with the next release."""

import sys
import warnings

from skindualgen.marks import c2pa, embed, watermark, xmp

warnings.warn("skindualgen.credentials is called skindualgen.marks", DeprecationWarning, stacklevel=2)
for _module in (c2pa, embed, watermark, xmp):
    sys.modules[_module.__name__.replace("marks", "credentials")] = _module
