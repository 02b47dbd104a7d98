"""Interfaces: calls by their types. what may be given and what is taken, from annotations, on both sides."""

from .adapters import Adapter as Adapter
from .adapters import adapt as adapt
from .codec import Codec as Codec
from .codec import codec as codec
from .declared import Declared as Declared
from .declared import check_closed as check_closed
from .declared import declared as declared
from .declared import declared_by as declared_by
from .errors import ArgumentsUnfit as ArgumentsUnfit
from .errors import ValueUnfit as ValueUnfit
from .markers import notify as notify
from .markers import raises as raises
