"""What MkDocs itself must be told: the fonts cut for the site, and where others' names
live.

The addresses stand here and not in an inventory that is fetched, so that the site
builds offline. A name that is not listed still fails the strict build."""

import os
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs_autorefs import AutorefsPlugin

from scipyconv_site import fonts

TORCH = "https://docs.pytorch.org/docs/stable"
NUMPY = "https://numpy.org/doc/stable/reference"
SCIPY = "https://docs.scipy.org/doc/scipy/reference"

ELSEWHERE = {
    "torch.autograd.Function": f"{TORCH}/autograd.html#torch.autograd.Function",
    "torch.dtype": f"{TORCH}/tensor_attributes.html#torch.dtype",
    "torch.device": f"{TORCH}/tensor_attributes.html#torch.device",
    "torch.Tensor": f"{TORCH}/tensors.html#torch.Tensor",
    "torch.autograd.function.once_differentiable": f"{TORCH}/generated/torch.autograd.function.once_differentiable.html",
    "torch.nn.Module": f"{TORCH}/generated/torch.nn.Module.html",
    **{
        f"torch.nn.{lazy}{kind}{dims}d": f"{TORCH}/generated/torch.nn.{lazy}{kind}{dims}d.html"
        for lazy in ("", "Lazy")
        for kind in ("Conv", "ConvTranspose")
        for dims in (1, 2, 3)
    },
    "torch.nn.Parameter": f"{TORCH}/generated/torch.nn.parameter.Parameter.html",
    **{
        f"torch.nn.functional.{kind}{dims}d": f"{TORCH}/generated/torch.nn.functional.{kind}{dims}d.html"
        for kind in ("conv", "conv_transpose")
        for dims in (1, 2, 3)
    },
    "torch.nn.functional.pad": f"{TORCH}/generated/torch.nn.functional.pad.html",
    "torch.nn.functional.cross_entropy": f"{TORCH}/generated/torch.nn.functional.cross_entropy.html",
    "torch.nn.functional.binary_cross_entropy_with_logits": f"{TORCH}/generated/torch.nn.functional.binary_cross_entropy_with_logits.html",
    "torch.use_deterministic_algorithms": f"{TORCH}/generated/torch.use_deterministic_algorithms.html",
    "torch.optim.SGD": f"{TORCH}/generated/torch.optim.SGD.html",
    "torch.compile": f"{TORCH}/generated/torch.compile.html",
    "torch.export": f"{TORCH}/user_guide/torch_compiler/export.html",
    "torch.manual_seed": f"{TORCH}/generated/torch.manual_seed.html",
    "torch.autograd.gradcheck": f"{TORCH}/generated/torch.autograd.gradcheck.gradcheck.html",
    "torch.autograd.gradgradcheck": f"{TORCH}/generated/torch.autograd.gradcheck.gradgradcheck.html",
    **{
        f"torch.func.{name}": f"{TORCH}/generated/torch.func.{name}.html"
        for name in (
            "functional_call",
            "grad",
            "hessian",
            "jacfwd",
            "jacrev",
            "jvp",
            "vjp",
            "vmap",
        )
    },
    **{
        f"scipy.signal.{name}": f"{SCIPY}/generated/scipy.signal.{name}.html"
        for name in ("correlate2d", "convolve2d", "correlate", "convolve")
    },
    **{
        f"numpy.{name}": f"{NUMPY}/generated/numpy.{name}.html"
        for name in ("ndarray", "pad", "flip", "sum", "correlate", "convolve")
    },
    **{
        f"scipy.ndimage.{name}": f"{SCIPY}/generated/scipy.ndimage.{name}.html"
        for name in ("correlate", "convolve")
    },
    "scipy.linalg.solve": f"{SCIPY}/generated/scipy.linalg.solve.html",
    "numpy.lib.stride_tricks.sliding_window_view": f"{NUMPY}/generated/numpy.lib.stride_tricks.sliding_window_view.html",
    "sklearn.datasets.load_digits": "https://scikit-learn.org/stable/modules/generated/sklearn.datasets.load_digits.html",
    "sklearn.datasets.load_sample_image": "https://scikit-learn.org/stable/modules/generated/sklearn.datasets.load_sample_image.html",
}


def on_config(config: MkDocsConfig) -> None:
    """Work from the repository's root, where the caches of figures and fonts are."""
    os.chdir(Path(config.config_file_path).parent)


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the fonts to the site."""
    for name in fonts.cuts():
        files.append(
            File.generated(config, f"assets/fonts/{name}", content=fonts.cut(name))
        )


def on_env(env: Any, config: MkDocsConfig, files: Files) -> None:
    """Tell the cross-references where the names of other projects are documented."""
    references = config.plugins["autorefs"]
    assert isinstance(references, AutorefsPlugin)
    for name, address in ELSEWHERE.items():
        references.register_url(name, address)
