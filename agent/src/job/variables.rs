//! Variables of a job's environment.

use std::collections::BTreeMap;

/// The variable for an entry of the job's item.
pub fn item_variable(name: &str) -> String {
    format!("JOB_ITEM_{name}")
}

/// Each name once, in order. A list, as it comes and goes as a whole: a tree of ten thousand would take a tenth of the time in which the
/// job is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variables(Vec<(String, String)>);

impl Variables {
    pub fn contains(&self, name: &str) -> bool {
        self.0.binary_search_by(|(known, _)| known.as_str().cmp(name)).is_ok()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&String, &String)> {
        self.0.iter().map(|(name, value)| (name, value))
    }
}

/// Of a name that comes more than once the last value counts.
impl FromIterator<(String, String)> for Variables {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        let list: Vec<_> = variables.into_iter().collect();
        if list.is_sorted_by(|(name, _), (next, _)| name < next) {
            return Self(list);
        }
        let sorted: BTreeMap<_, _> = list.into_iter().collect();
        Self(sorted.into_iter().collect())
    }
}

impl IntoIterator for Variables {
    type Item = (String, String);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_of_a_name_counts() {
        let given = [("B", "1"), ("A", "2"), ("B", "3"), ("C", "4"), ("B", "5")];
        let variables: Variables = given.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let kept: Vec<_> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(kept, ["A=2", "B=5", "C=4"]);
        assert!(variables.contains("C") && !variables.contains("D"));
    }
}
