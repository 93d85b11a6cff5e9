"""A page that nobody sees, made before the processes of a build part, so that what every page needs is set up once.

It has what most pages have: their parser, with its expressions and extensions; the languages that are highlighted; the compiled
templates of the API documentation; the sources of the package.
"""

from __future__ import annotations

import logging
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

TEXT = """
# Title

Text with `code`, $x^2$, **bold**, [a link](https://example.org) and a list:

- of [one](#title){: .entry }

$$
y = x
$$

!!! warning "Title"

    Text.

=== "Tab"

    ```python
    import zoo  # noqa
    model = zoo.create("resnet50", norm=None, depth=2)
    ```

<div markdown>

| a | b |
|---|---|
| 1 | `2` |

</div>

```bibtex
@article{a, title = {b}}
```

::: zoo.pooling.isqrt_cov.ISqrtCov

::: zoo.pooling.isqrt_cov.newton_schulz_sqrt
"""


def rehearse(config: Any) -> bool:
    """Make that page, of which nothing stays but what it took. False where that did not work: each process then does it itself."""
    try:
        file = File("rehearsal.md", config.docs_dir, config.site_dir, config.use_directory_urls)
        page = Page(None, file, config)
        page.markdown = TEXT
        page.render(config, Files([file]))
    except Exception as error:  # a shortcut only
        logging.getLogger("mkdocs.zoo").debug("not rehearsed: %s", error)
        return False
    return True
