//! The settings of a device that sends readings by itself: the table `[device]` of the file, flags and environment.

use std::time::Duration;

use sealpost_core::{ContactLink, Invitation, UserId};
use serde::Deserialize;

use super::{Environment, Settings, SettingsError, nearest_of};
use crate::cli::{Global, parse_duration};
use crate::store::{FEWEST_BYTES, FEWEST_READINGS, MOST_BYTES, MOST_READINGS, RingLimits};

/// How many readings are kept when nobody says: at one a minute, a week.
pub const DEFAULT_RING_READINGS: u32 = 10_000;
/// How much of the disk they may take when nobody says, in bytes.
pub const DEFAULT_RING_BYTES: u64 = 32 * 1024 * 1024;
/// How long readings are gathered when nobody says.
pub const DEFAULT_GATHER: &str = "5s";
/// The shortest and the longest time that they are gathered: below, every reading wears the disk; above, too much is lost with the power.
const GATHER: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(60);

/// Every key of the table.
pub(crate) const DEVICE_KEYS: [&str; 6] = [
    "to",
    "invitation",
    "input",
    "ring_readings",
    "ring_bytes",
    "gather",
];

/// What the variables of a device begin with: one that nothing reads is a slip.
const PREFIX: &str = "SEALPOST_DEVICE_";
/// Every variable that begins so.
const VARIABLES: [&str; 5] = [
    "SEALPOST_DEVICE_TO",
    "SEALPOST_DEVICE_INPUT",
    "SEALPOST_DEVICE_RING_READINGS",
    "SEALPOST_DEVICE_RING_BYTES",
    "SEALPOST_DEVICE_GATHER",
];

/// The table `[device]`, all optional.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceLayer {
    to: Option<String>,
    invitation: Option<String>,
    input: Option<String>,
    ring_readings: Option<u64>,
    ring_bytes: Option<u64>,
    gather: Option<String>,
}

/// The same as flags, as they were given.
#[derive(Debug, Clone, Default)]
pub struct DeviceFlags {
    /// To whom.
    pub to: Option<String>,
    /// What standard input has.
    pub input: Option<String>,
    /// How many readings are kept.
    pub ring_readings: Option<String>,
    /// How many bytes of them.
    pub ring_bytes: Option<String>,
    /// How long they are gathered.
    pub gather: Option<String>,
}

/// To whom a device sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receiver {
    /// Who is named by this link, and proven by it.
    Link(ContactLink),
    /// A contact that this home knows and has verified.
    Contact(UserId),
}

impl Receiver {
    /// The name.
    #[must_use]
    pub fn user(&self) -> &UserId {
        match self {
            Receiver::Link(link) => &link.user,
            Receiver::Contact(user) => user,
        }
    }
}

/// What lines of standard input are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// JSON where they are JSON, otherwise text.
    Auto,
    /// Text.
    Text,
    /// JSON; others are refused.
    Json,
}

/// What a device needs to know beside [`Settings`], checked.
#[derive(Debug, Clone)]
pub struct DeviceSettings {
    /// To whom; `None` where it was not said, which only sending needs.
    pub to: Option<Receiver>,
    /// What standard input has.
    pub input: Lines,
    /// How much is kept.
    pub limits: RingLimits,
    /// How long readings are gathered before they are written and sent: what a loss of power takes at most.
    pub gather: Duration,
}

/// One of these settings is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not what {key} can be: {problem}")]
pub struct DeviceSettingError {
    /// Which one, as in the file.
    pub key: &'static str,
    /// What was given.
    pub text: String,
    /// What it can be.
    pub problem: String,
}

impl DeviceSettings {
    /// Puts the layers together, as [`Settings::load`] does, and these settings with them.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn load(
        global: &Global,
        flags: &DeviceFlags,
        environment: Environment<'_>,
    ) -> Result<(Settings, DeviceSettings), SettingsError> {
        let mut settings = Settings::load(global, environment)?;
        let file = std::mem::take(&mut settings.device);
        if settings.invitation.is_none() {
            let invitation = file.invitation.as_deref().map(str::trim);
            settings.invitation = invitation.map(Invitation::parse).transpose()?;
        }
        let device = DeviceSettings::layer(flags, environment, file)?;
        Ok((settings, device))
    }

    fn layer(
        flags: &DeviceFlags,
        environment: Environment<'_>,
        file: DeviceLayer,
    ) -> Result<DeviceSettings, DeviceSettingError> {
        let first = |flag: &Option<String>, variable, in_file: Option<String>| {
            flag.clone().or_else(|| environment(variable)).or(in_file)
        };
        let [
            to_variable,
            input_variable,
            readings_variable,
            bytes_variable,
            gather_variable,
        ] = VARIABLES;
        let number = |n: u64| n.to_string();
        let to = first(&flags.to, to_variable, file.to);
        let input = first(&flags.input, input_variable, file.input);
        let readings = first(
            &flags.ring_readings,
            readings_variable,
            file.ring_readings.map(number),
        );
        let bytes = first(
            &flags.ring_bytes,
            bytes_variable,
            file.ring_bytes.map(number),
        );
        let gather = first(&flags.gather, gather_variable, file.gather);
        Ok(DeviceSettings {
            to: to.map(receiver).transpose()?,
            input: input.map_or(Ok(Lines::Auto), lines)?,
            limits: RingLimits {
                readings: match readings {
                    None => DEFAULT_RING_READINGS,
                    Some(text) => u32::try_from(within(
                        "ring_readings",
                        text,
                        FEWEST_READINGS.into(),
                        MOST_READINGS.into(),
                    )?)
                    .unwrap_or(MOST_READINGS),
                },
                bytes: bytes.map_or(Ok(DEFAULT_RING_BYTES), |text| {
                    within("ring_bytes", text, FEWEST_BYTES, MOST_BYTES)
                })?,
            },
            gather: time(gather.unwrap_or_else(|| DEFAULT_GATHER.to_owned()))?,
        })
    }
}

/// Refuses a variable that begins as those of a device do, and is none.
///
/// # Errors
/// [`SettingsError::UnknownVariable`].
pub fn check_device_environment() -> Result<(), SettingsError> {
    for (name, _) in std::env::vars_os() {
        let Some(name) = name.to_str() else {
            continue;
        };
        if name.starts_with(PREFIX) && !VARIABLES.contains(&name) {
            return Err(SettingsError::UnknownVariable {
                name: name.to_owned(),
                nearest: nearest_of(name, &VARIABLES),
            });
        }
    }
    super::check_environment_of(&VARIABLES)
}

fn receiver(text: String) -> Result<Receiver, DeviceSettingError> {
    let trimmed = text.trim();
    if trimmed.starts_with("sealpost:") {
        return ContactLink::parse(trimmed)
            .map(Receiver::Link)
            .map_err(|error| DeviceSettingError {
                key: "to",
                problem: error.to_string(),
                text: text.clone(),
            });
    }
    UserId::parse(trimmed)
        .map(Receiver::Contact)
        .map_err(|error| DeviceSettingError {
            key: "to",
            problem: format!("a contact link, or the name of a contact ({error})"),
            text: text.clone(),
        })
}

fn lines(text: String) -> Result<Lines, DeviceSettingError> {
    Ok(match text.as_str() {
        "auto" => Lines::Auto,
        "text" => Lines::Text,
        "json" => Lines::Json,
        _ => {
            return Err(DeviceSettingError {
                key: "input",
                problem: "\"auto\", \"text\" or \"json\"".to_owned(),
                text,
            });
        }
    })
}

fn within(
    key: &'static str,
    text: String,
    fewest: u64,
    most: u64,
) -> Result<u64, DeviceSettingError> {
    match text.parse() {
        Ok(number) if (fewest..=most).contains(&number) => Ok(number),
        _ => Err(DeviceSettingError {
            key,
            problem: format!("a number from {fewest} to {most}"),
            text,
        }),
    }
}

fn time(text: String) -> Result<Duration, DeviceSettingError> {
    let problem = match parse_duration(&text) {
        Ok(time) if GATHER.contains(&time) => return Ok(time),
        Ok(_) => "from 10ms to 60s".to_owned(),
        Err(problem) => problem,
    };
    Err(DeviceSettingError {
        key: "gather",
        text,
        problem,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: &str = "sealpost:contact?v=1&realm=local&user=alice&identity=ebVWLo_mVPlAeLES6KmLp5AfhTrmlb7X4OORC60ElmQ&broker=mqtt://h";

    fn nothing(_: &str) -> Option<String> {
        None
    }

    fn file() -> DeviceLayer {
        DeviceLayer {
            to: Some(LINK.into()),
            input: Some("json".into()),
            ring_readings: Some(300),
            ring_bytes: Some(2_000_000),
            gather: Some("1s".into()),
            ..DeviceLayer::default()
        }
    }

    #[test]
    fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
        let none = DeviceFlags::default();
        let flags = DeviceFlags {
            to: Some("bob".into()),
            input: Some("text".into()),
            ring_readings: Some("500".into()),
            ring_bytes: Some("4000000".into()),
            gather: Some("3s".into()),
        };
        let environment = |name: &str| {
            Some(match name {
                "SEALPOST_DEVICE_TO" => "carol".to_owned(),
                "SEALPOST_DEVICE_INPUT" => "auto".to_owned(),
                "SEALPOST_DEVICE_RING_READINGS" => "400".to_owned(),
                "SEALPOST_DEVICE_RING_BYTES" => "3000000".to_owned(),
                "SEALPOST_DEVICE_GATHER" => "2s".to_owned(),
                _ => return None,
            })
        };
        let seconds = |settings: &DeviceSettings| settings.gather.as_secs();
        for (settings, user, lines, readings, bytes, gather) in [
            (
                DeviceSettings::layer(&flags, &environment, file()),
                "bob",
                Lines::Text,
                500,
                4_000_000,
                3,
            ),
            (
                DeviceSettings::layer(&none, &environment, file()),
                "carol",
                Lines::Auto,
                400,
                3_000_000,
                2,
            ),
            (
                DeviceSettings::layer(&none, &nothing, file()),
                "alice",
                Lines::Json,
                300,
                2_000_000,
                1,
            ),
        ] {
            let settings = settings.unwrap();
            assert_eq!(settings.to.as_ref().unwrap().user().as_str(), user);
            assert_eq!(settings.input, lines);
            assert_eq!(settings.limits, RingLimits { readings, bytes });
            assert_eq!(seconds(&settings), gather);
        }
        let settings = DeviceSettings::layer(&none, &nothing, DeviceLayer::default()).unwrap();
        assert_eq!((settings.to, settings.input), (None, Lines::Auto));
        assert_eq!(settings.gather, Duration::from_secs(5));
        assert_eq!(settings.limits.readings, DEFAULT_RING_READINGS);
    }

    #[test]
    fn the_commented_default_file_says_what_the_defaults_are() {
        let text = include_str!("../../../config/device.toml");
        let (_, table) = text.split_once("[device]\n").unwrap();
        let of = |key: &str| {
            let line = table
                .lines()
                .map(|line| line.strip_prefix('#').unwrap_or(line))
                .find_map(|line| line.strip_prefix(&format!("{key} = ")));
            line.unwrap_or_else(|| panic!("config/device.toml does not mention {key}"))
                .trim_matches('"')
                .to_owned()
        };
        for key in DEVICE_KEYS {
            of(key);
        }
        let flags = DeviceFlags {
            to: None,
            input: Some(of("input")),
            ring_readings: Some(of("ring_readings")),
            ring_bytes: Some(of("ring_bytes")),
            gather: Some(of("gather")),
        };
        let of_file = DeviceSettings::layer(&flags, &nothing, DeviceLayer::default()).unwrap();
        let none = DeviceFlags::default();
        let defaults = DeviceSettings::layer(&none, &nothing, DeviceLayer::default()).unwrap();
        assert_eq!(of_file.input, defaults.input);
        assert_eq!(of_file.limits, defaults.limits);
        assert_eq!(of_file.gather, defaults.gather);
    }

    #[test]
    fn what_a_setting_cannot_be_is_refused_by_its_name() {
        for (key, text) in [
            ("to", "Alice"),
            ("to", "sealpost:contact?v=2"),
            ("input", "yaml"),
            ("ring_readings", "255"),
            ("ring_readings", "100001"),
            ("ring_readings", "many"),
            ("ring_bytes", "1"),
            ("gather", "0s"),
            ("gather", "1ms"),
            ("gather", "2m"),
            ("gather", "soon"),
        ] {
            let mut flags = DeviceFlags::default();
            let flag = match key {
                "to" => &mut flags.to,
                "input" => &mut flags.input,
                "ring_readings" => &mut flags.ring_readings,
                "ring_bytes" => &mut flags.ring_bytes,
                _ => &mut flags.gather,
            };
            *flag = Some(text.to_owned());
            let error = DeviceSettings::layer(&flags, &nothing, file()).unwrap_err();
            assert_eq!((error.key, error.text.as_str()), (key, text));
        }
    }
}
