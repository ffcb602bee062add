"""The application: from a hazy clip to a result folder."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, ["methods"])
