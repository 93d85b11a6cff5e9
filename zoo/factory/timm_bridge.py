"""The registry's models under ``timm.create_model``."""

from __future__ import annotations

from typing import Any

from zoo.registry.lookup import registry


def record_of(tag: str) -> Any:
    """timm's own record of a tag (a ``PretrainedCfg``), or None where the installed timm does not know it."""
    import timm

    try:
        return timm.models.get_pretrained_cfg(tag)
    except RuntimeError:  # the architecture is known, this tag of it is not
        return None


def register_with_timm() -> list[str]:
    """Register an entry point in timm for every model of the registry; those that timm has by that name are left alone."""
    import sys

    from timm.models import is_model, register_model

    import zoo

    module = sys.modules[__name__]
    done = []
    for name in registry().raw.models:
        if is_model(name):
            continue

        def entry(pretrained: bool = False, *, _name: str = name, **kwargs: Any) -> Any:
            # timm passes its own bookkeeping to every entry point.
            for key in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):
                if kwargs.pop(key, None) is not None:
                    raise TypeError(f"{_name} comes from zoo's registry, {key}= does not apply to it")
            return zoo.create(_name, pretrained=pretrained, **kwargs)

        entry.__name__ = name
        entry.__module__ = __name__
        entry.__doc__ = f"zoo.create({name!r})"
        setattr(module, name, entry)
        if not hasattr(module, "__all__"):
            module.__all__ = ["register_with_timm"]  # type: ignore[attr-defined]
        register_model(entry)
        done.append(name)
    return done
