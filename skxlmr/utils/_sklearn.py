"""The only file that touches scikit-learn's private API."""

from sklearn.base import _fit_context as fit_context
from sklearn.callback import CallbackSupportMixin
from sklearn.utils._param_validation import Interval, Options, StrOptions, validate_parameter_constraints
from sklearn.utils._set_output import _get_output_config as output_config
from sklearn.utils.validation import _check_feature_names as check_feature_names
from sklearn.utils.validation import _check_sample_weight as check_sample_weight
from sklearn.utils.validation import _get_feature_names as get_feature_names

# What scikit-learn keeps on an estimator that has callbacks; the first stays after a fit.
CALLBACK_ATTRIBUTES = frozenset(
    {"_skl_callbacks", "_skl_callbacks_to_teardown", "_callback_fit_ctx", "_parent_callback_ctx"}
)

__all__ = [
    "CALLBACK_ATTRIBUTES",
    "CallbackSupportMixin",
    "Interval",
    "Options",
    "StrOptions",
    "check_feature_names",
    "check_sample_weight",
    "fit_context",
    "get_feature_names",
    "output_config",
    "validate_parameter_constraints",
]
