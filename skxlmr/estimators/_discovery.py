"""All estimators of the library, to iterate over."""

from typing import Any

import sklearn.base

KINDS = {
    "classifier": sklearn.base.ClassifierMixin,
    "regressor": sklearn.base.RegressorMixin,
    "transformer": sklearn.base.TransformerMixin,
}


def all_estimators(type_filter: str | list[str] | None = None) -> list[tuple[str, type[Any]]]:
    """Name and class of each estimator of the library, sorted by name.

    Parameters
    ----------
    type_filter : {'classifier', 'regressor', 'transformer'}, list of these or None
        Only estimators of these kinds. None is all estimators.

    Returns
    -------
    list of (str, type)
        The names are those of ``skxlmr``.

    Raises
    ------
    ValueError
        If ``type_filter`` names another kind.

    See Also
    --------
    sklearn.utils.discovery.all_estimators : The same for scikit-learn's own.

    Examples
    --------
    >>> from skxlmr import all_estimators
    >>> [name for name, _ in all_estimators("regressor")]
    ['XLMRobertaRegressor']
    """
    from skxlmr import estimators

    wanted = [type_filter] if isinstance(type_filter, str) else list(KINDS if type_filter is None else type_filter)
    unknown = [kind for kind in wanted if kind not in KINDS]
    if unknown:
        raise ValueError(f"type_filter must be one of {', '.join(map(repr, KINDS))}, got {unknown[0]!r}")
    found = [(name, getattr(estimators, name)) for name in sorted(estimators.__all__)]
    if type_filter is None:
        return found
    return [(name, cls) for name, cls in found if issubclass(cls, tuple(KINDS[kind] for kind in wanted))]
