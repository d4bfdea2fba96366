"""A preview: a few photos that stand for many, restored under every setting that is asked for."""
