"""Nuclear Diffusion: separate a video into a low-rank background and a foreground with a diffusion prior.

All public names are here: `import nuclear_diffusion as nd`, then `nd.separate`, `nd.read_video`, ... They are listed in
`__init__.pyi` and imported on first use, which keeps the import and the command line's help fast. Research use only.
"""

import logging

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

logging.getLogger(__name__).addHandler(logging.NullHandler())  # silent unless a program asks for it
