"""Which annotations the test run enforces: those of tensors and arrays, in shape and type."""

from beartype import BeartypeConf, beartype


def tensors(function):
    """`function` checked by beartype where an annotation is of jaxtyping, else as it is.

    Other wrong arguments are for the functions themselves to refuse; and a dataclass may take lists and make them
    arrays, so constructors are left alone.
    """
    if isinstance(function, type) or function.__name__ == "__init__":
        return function
    function.__annotations__ = {k: v for k, v in function.__annotations__.items() if "jaxtyping" in repr(v)}
    return beartype(conf=BeartypeConf(is_pep484_tower=True))(function) if function.__annotations__ else function
