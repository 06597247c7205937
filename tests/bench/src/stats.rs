//! The middle and the tail of a row of numbers.

use serde_json::{Value, json};

/// The value below which `share` of the numbers lie; 0 for none.
pub(crate) fn quantile(numbers: &[f64], share: f64) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let index = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or_default()
}

pub(crate) fn summary(numbers: &[f64]) -> Value {
    json!({ "p50": quantile(numbers, 0.5), "p90": quantile(numbers, 0.9), "max": quantile(numbers, 1.0), "count": numbers.len() })
}
