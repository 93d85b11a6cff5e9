"""The documentation site: registry, catalog, lock and evidence in; Markdown, data and a static site out."""
