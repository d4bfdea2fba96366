"""What may go wrong between a client and the engine."""

from codiff_batch.errors import CodiffError


class RequestRefused(CodiffError):
    """A request that cannot be understood or followed."""


class Cancelled(CodiffError):
    """The client asked for the end of its request, or is gone."""
