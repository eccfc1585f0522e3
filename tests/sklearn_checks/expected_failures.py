"""scikit-learn's checks that an estimator does not pass, each with the reason, and the checks that run on no estimator.

The tests are strict: they fail if a check named here passes, and if a check that is not named here fails.
"""

MASKS = (
    "each copy of a row draws its own masked tokens, so a row of weight two and a row that appears twice are trained alike "
    "only on average"
)
CHOICES = (
    "`decision_function` and `predict_proba` have one column per choice of a row, whatever the targets are; the check wants "
    "one per class, and a single score for two classes"
)

EXPECTED_FAILURES = {
    "XLMRobertaRegressor": {
        "check_regressor_multioutput": "the check wants float64; predictions are float32, like all outputs of the estimators",
    },
    "XLMRobertaMaskedLM": {"check_sample_weight_equivalence_on_dense_data": MASKS},
    "XLMMaskedLM": {"check_sample_weight_equivalence_on_dense_data": MASKS},
    "XLMRobertaDialogueLM": {
        "check_sample_weight_equivalence_on_dense_data": (
            "each copy of a dialogue draws its own masks and its own split into context and response, and is one more negative "
            "for the other dialogues"
        ),
    },
    "XLMRobertaEmbedder": {
        "check_sample_weight_equivalence_on_dense_data": (
            "each copy of a row is one more partner for the rows of its class, and one more text from which others are told "
            "apart"
        ),
    },
    "XLMRobertaMultipleChoiceClassifier": {
        "check_classifiers_classes": "targets are indices of choices, from 0; the check uses names and negative numbers",
        "check_classifiers_train": CHOICES,
        "check_decision_proba_consistency": CHOICES,
    },
}

SPARSE = "texts are never sparse; `check_estimator_sparse_tag` and similar checks test that sparse input is refused"
ARRAY_API = (
    "texts exist in no array namespace except NumPy's; `check_array_api_input` and similar checks run with NumPy"
)
OTHER_KIND = "for estimators of another kind"

RUN_ON_NONE = {
    "check_array_api_mixed_inputs": ARRAY_API,
    "check_array_api_same_namespace": ARRAY_API,
    "check_classifier_not_supporting_multiclass": "our classifiers take several classes",
    "check_classifiers_predictions": "a part of `check_classifiers_classes`",
    "check_clusterer_compute_labels_predict": OTHER_KIND,
    "check_clustering": OTHER_KIND,
    "check_estimator": "the function that runs the others",
    "check_estimators_data_not_an_array": "a part of `check_classifier_data_not_an_array` and similar checks",
    "check_fit_non_negative": "for estimators of numbers that must be positive",
    "check_nonsquare_error": "for estimators of kernel matrices",
    "check_outlier_contamination": OTHER_KIND,
    "check_outlier_corruption": OTHER_KIND,
    "check_outliers_fit_predict": OTHER_KIND,
    "check_outliers_train": OTHER_KIND,
    "check_sample_weight_equivalence_on_sparse_data": SPARSE,
    "check_sparsify_coefficients": "for linear models with `sparsify`",
    "check_transformer_preserve_dtypes": "texts have no precision to keep: features are float32",
}
