"""What zoo knows: schema, loading, cross-checks, lookup. Nothing here imports torch."""
