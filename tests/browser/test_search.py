"""What people type into the search box, and the page that they should find.

Material's own index and worker answer. A page counts as found if it is among the first
three; where several pages answer a question, any of them does."""

import pytest
from browsing import opened
from playwright.sync_api import Page, expect

#: A query, and the pages that answer it.
ANSWERS = {
    "input gradient": ["learn/07-how-a-pixel-is-blamed"],
    "weight gradient": ["learn/06-how-a-weight-is-blamed"],
    "bias gradient sum": [
        "learn/06-how-a-weight-is-blamed",
        "learn/05-what-comes-back",
    ],
    "which eps": ["practice/step-size", "learn/09-is-it-wrong"],
    "gradcheck float32": [
        "practice/step-size",
        "learn/09-is-it-wrong",
        "practice/debug-gradcheck",
    ],
    "gradcheck fails": ["practice/debug-gradcheck", "practice/check-your-kernel"],
    "Triton": ["practice/check-your-kernel"],
    "CUDA kernel": ["practice/check-your-kernel"],
    "check my own kernel": ["practice/check-your-kernel"],
    "same padding SciPy": ["how-to/padding", "explain/conventions", "reference/shapes"],
    "same padding scipy torch": [
        "how-to/padding",
        "explain/conventions",
        "reference/shapes",
    ],
    "double backward": ["how-to/second-derivatives"],
    "second derivatives": ["how-to/second-derivatives"],
    "Can't call numpy() on Tensor that requires grad": [
        "practice/debug-gradcheck",
        "how-to/wrap-your-own",
        "learn/08-telling-pytorch",
    ],
    "conv backward by hand": [
        "learn/07-how-a-pixel-is-blamed",
        "learn/06-how-a-weight-is-blamed",
        "practice/puzzles",
        "learn/05-what-comes-back",
    ],
    "conv backward derivation": [
        "learn/07-how-a-pixel-is-blamed",
        "learn/06-how-a-weight-is-blamed",
        "explain/trilinear-form",
    ],
    "transposed convolution gradient": [
        "how-to/transposed",
        "explain/transposed-is-backward",
    ],
    "im2col": ["explain/windows-times-weights"],
    "weight gradient stride": ["how-to/stride"],
    "receptive field": ["how-to/dilation", "reference/shapes", "how-to/stride"],
    "passes gradcheck but trains badly": ["practice/debug-gradcheck"],
    "loss does not fall": ["practice/debug-gradcheck", "learn/10-can-it-learn"],
    "why float64": ["learn/09-is-it-wrong", "practice/step-size", "explain/precision"],
    "detach": [
        "learn/08-telling-pytorch",
        "how-to/second-derivatives",
        "practice/debug-gradcheck",
    ],
    "when is FFT faster": [
        "explain/convolution-theorem",
        "explain/cost-model",
        "how-to/choose-an-engine",
    ],
    "fft convolution": ["explain/convolution-theorem", "explain/adjoint-in-frequency"],
    "wrap scipy function autograd": ["how-to/wrap-your-own"],
    "custom autograd function numpy": [
        "how-to/wrap-your-own",
        "learn/08-telling-pytorch",
    ],
    "once_differentiable": [
        "how-to/second-derivatives",
        "practice/debug-gradcheck",
        "how-to/wrap-your-own",
    ],
    "per-sample gradients": ["how-to/vmap"],
    "depthwise convolution": ["how-to/groups"],
    "dilated convolution": ["how-to/dilation"],
    "atrous": ["how-to/dilation"],
    "output_padding": ["how-to/transposed"],
    "stride remainder": ["how-to/stride"],
    "cross-correlation vs convolution": [
        "learn/04-not-a-convolution",
        "explain/conventions",
    ],
    "flip the kernel": ["learn/04-not-a-convolution", "learn/07-how-a-pixel-is-blamed"],
    "adjoint test": ["explain/adjoint"],
    "Toeplitz matrix": ["explain/matrix-view"],
    "output shape formula": ["reference/shapes"],
    "torch.compile": ["how-to/compile"],
    "DistributedDataParallel": ["how-to/several-processes"],
    "FSDP": ["how-to/several-processes"],
    "large kernel convolution CPU": ["how-to/large-kernels"],
    "replace nn.Conv2d in model": ["how-to/swap"],
    "sobel": ["learn/03-what-a-filter-sees", "learn/10-can-it-learn"],
    "learning rate too large": ["learn/10-can-it-learn", "practice/debug-gradcheck"],
    "Jacobian mismatch for output 0": ["practice/debug-gradcheck"],
    "exercises": ["practice/puzzles", "practice"],
    "gradcheck what it misses": ["practice/what-gradcheck-cannot-see"],
    "float16 convolution precision": ["explain/precision"],
    "set_num_threads": ["how-to/threads-and-memory"],
    "conv1d": [
        "how-to/one-and-three-dimensions",
        "reference/api",
        "reference/functions",
    ],
    "complex convolution gradient": [
        "practice/puzzles",
        "practice/debug-gradcheck",
        "learn/09-is-it-wrong",
        "explain/adjoint",
        "how-to/second-derivatives",
        "explain/trilinear-form",
        "how-to/wrap-your-own",
    ],
}
FIRST = 3


@pytest.fixture(scope="module")
def box(browser, address) -> Page:
    """The search box of a page, once the index has come."""
    page = opened(browser.new_context(), address, "index.md")
    page.locator(".md-search__input").click()
    expect(page.locator(".md-search-result__meta")).to_have_text(
        "Type to start searching", timeout=20_000
    )
    return page


def found(box: Page, address: str, query: str) -> list[str]:
    """Return the pages that a query finds, the best first."""
    field, meta = box.locator(".md-search__input"), ".md-search-result__meta"
    field.fill("")
    field.press("Backspace")
    expect(box.locator(meta)).to_have_text("Type to start searching")
    field.fill(query)
    field.press("End")
    expect(box.locator(meta)).to_contain_text("matching document")
    links = box.locator(".md-search-result__item > a").evaluate_all(
        "links => links.map(link => link.href.split(/[?#]/)[0])"
    )
    return list(dict.fromkeys(link.removeprefix(address).rstrip("/") for link in links))


@pytest.mark.parametrize("query", ANSWERS)
def test_a_query_finds_its_page(box, address, query):
    first = found(box, address, query)[:FIRST]
    assert {*first} & {*ANSWERS[query]}, first
