//! What a node is like at this moment, as Prometheus text: each family with its meaning, no value older than the question.
//!
//! Decides the text's form only. Kept apart from the recorder, which would show a shard that has left for ever.

use std::fmt::Write;

/// Families of gauges, written one after the other.
#[derive(Debug, Default)]
pub(crate) struct Gauges(String);

impl Gauges {
    /// Begins a family; its values follow.
    pub(crate) fn family(&mut self, name: &'static str, help: &str) -> Family<'_> {
        let text = &mut self.0;
        // Writing into a string can't fail.
        writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge").ok();
        Family { text, name }
    }

    /// A family of one value without labels.
    pub(crate) fn one(&mut self, name: &'static str, help: &str, value: u64) {
        self.family(name, help).value("", value as f64);
    }

    /// A duration, in the base unit of Prometheus.
    pub(crate) fn millis(&mut self, name: &'static str, help: &str, ms: u64) {
        self.family(name, help).value("", ms as f64 / 1e3);
    }

    pub(crate) fn text(self) -> String {
        self.0
    }
}

/// The values of one family.
pub(crate) struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Family<'_> {
    /// `labels` as in `shard="1"`, without a client's text in it.
    pub(crate) fn value(&mut self, labels: &str, value: f64) {
        let name = self.name;
        if labels.is_empty() {
            writeln!(self.text, "{name} {value}").ok();
        } else {
            writeln!(self.text, "{name}{{{labels}}} {value}").ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_has_its_meaning_its_type_and_its_values() {
        let mut gauges = Gauges::default();
        let mut up = gauges.family("sheaf_up", "Whether it answers.");
        up.value("shard=\"1\"", 1.0);
        up.value("shard=\"2\"", 0.0);
        gauges.millis("sheaf_stall_seconds", "Held.", 1_250);
        let text = "# HELP sheaf_up Whether it answers.\n# TYPE sheaf_up gauge\n\
                    sheaf_up{shard=\"1\"} 1\nsheaf_up{shard=\"2\"} 0\n\
                    # HELP sheaf_stall_seconds Held.\n# TYPE sheaf_stall_seconds gauge\n\
                    sheaf_stall_seconds 1.25\n";
        assert_eq!(gauges.text(), text);
    }
}
