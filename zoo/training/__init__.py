"""Programs that train what zoo bundles, noise generators, recipes."""
