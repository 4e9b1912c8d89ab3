//! Times in what is written for programs.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use sealpost_core::Timestamp;
use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// A time, written as the number of seconds since the epoch with three decimals, as envelopes and the archive have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Timestamp);

impl Serialize for Time {
    /// As JSON only. A float would drop zeros at the end.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let number = RawValue::from_string(self.0.to_string()).map_err(S::Error::custom)?;
        number.serialize(to)
    }
}

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Seconds since the epoch, written with three decimals.",
            "type": "number",
            "minimum": 0,
            "maximum": 9_999_999_999.999_f64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_decimals_whatever_they_are() {
        for (millis, written) in [
            (0, "0.000"),
            (1_700_000_000_120, "1700000000.120"),
            (Timestamp::MAX.millis(), "9999999999.999"),
        ] {
            let time = Time(Timestamp::from_millis(millis).unwrap());
            assert_eq!(serde_json::to_string(&time).unwrap(), written);
        }
    }
}
