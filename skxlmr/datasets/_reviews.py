"""The table of the examples: reviews in ten languages."""

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

_FILE = Path(__file__).with_name("reviews.csv")
_TARGET = "sentiment"
_DESCRIPTION = """\
Reviews in ten languages
------------------------

360 short reviews of products and places, 36 in each of Dutch, English, French, German, Italian, Japanese, Portuguese,
Russian, Spanish and Turkish. A table of demonstration size: it shows how things work, not how well a model does.

    review         the text
    language       of the text, as a two-letter code
    category       book, clothing, electronics, hotel, household or restaurant
    price          of the product or the stay
    verified       whether the purchase was: yes or no
    helpful_votes  of other readers
    sentiment      the target: negative, neutral or positive, 120 reviews each

The table comes with the library, under its licence (BSD-3-Clause).
"""


def load_reviews(*, as_frame: bool = True, return_X_y: bool = False) -> Any:
    """Load the reviews of the examples: 360 texts in ten languages, next to other columns (classification).

    The file ships with the package; nothing is downloaded.

    Parameters
    ----------
    as_frame : bool
        Whether ``data`` is a DataFrame and ``target`` a Series, or else both are arrays of objects.
    return_X_y : bool
        Return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    sklearn.utils.Bunch or tuple
        A dictionary with attributes:

        - ``data``: the six columns of features, of shape (360, 6); the texts are in ``review``
        - ``target``: the sentiment as a string, of shape (360,)
        - ``frame``: the DataFrame of both, or None with ``as_frame=False``
        - ``feature_names``: list of str
        - ``target_names``: the distinct targets, an array of str
        - ``DESCR``: what the table is
        - ``filename``: path of the CSV file

    See Also
    --------
    sklearn.datasets.load_iris : The same for flowers.

    Examples
    --------
    >>> from skxlmr.datasets import load_reviews
    >>> reviews = load_reviews()
    >>> reviews.target_names.tolist()
    ['negative', 'neutral', 'positive']
    >>> reviews.frame.groupby("language").size()["de"].item()
    36
    """
    import pandas as pd  # here, so that importing the package stays light

    frame = pd.read_csv(_FILE)
    names, classes = frame.columns.drop(_TARGET).tolist(), frame[_TARGET].unique()
    data: Any = frame[names]
    target: Any = frame[_TARGET]
    if not as_frame:
        data, target = data.to_numpy(dtype=object), target.to_numpy(dtype=object)
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        frame=frame if as_frame else None,
        feature_names=names,
        target_names=np.array(sorted(classes)),
        DESCR=_DESCRIPTION,
        filename=str(_FILE),
    )
