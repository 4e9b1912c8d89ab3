//! `invite`: makes an invitation, which lets its holder claim a name.

use std::io::Write;
use std::time::Duration;

use sealpost_core::Invitation;

use super::GlobalArguments;
use super::failure::{Code, Failure};
use super::target::Target;
use crate::clock;
use crate::control::request::Request;

/// How long an invitation may wait: one that is forgotten in a drawer is not to open the door for ever.
const LONGEST: Duration = Duration::from_secs(90 * 24 * 60 * 60);

#[derive(Debug, clap::Args)]
pub(super) struct InviteArguments {
    /// The name that it lets claim.
    #[arg(value_name = "USER")]
    user: String,
    #[command(flatten)]
    invitation: InvitationArguments,
}

/// What `invite` and `users reset-identity` take.
#[derive(Debug, clap::Args)]
pub(super) struct InvitationArguments {
    /// How long the invitation may wait: a number and m, h or d; at most 90d.
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = parse_expiry)]
    expires: Duration,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
}

impl InvitationArguments {
    /// Makes an invitation and has its public half known; prints the secret if that was done.
    pub(super) fn offer(
        &self,
        target: &mut Target,
        user: &str,
        request: impl FnOnce(String, u64) -> Request,
    ) -> Result<(), Failure> {
        let invitation = Invitation::generate(&mut rand::rng());
        let expires = clock::now().saturating_add(self.expires).millis();
        target.ask(&request(invitation.key().to_base64(), expires), |_| {})?;
        let secret = invitation.to_secret_text();
        let mut stdout = std::io::stdout();
        let printed = if self.json {
            let object = serde_json::json!({
                "user": user,
                "invitation": secret.as_str(),
                "expires": expires,
            });
            writeln!(stdout, "{object}")
        } else {
            eprintln!(
                "An invitation for {user}, good once and for {}. Whoever has it can be {user}: hand it over as you would a \
                 password. {user} uses it with the first command that connects, with this broker's --broker and --realm where they are \
                 not the defaults:\n  SEALPOST_INVITATION=<it> sealpost --user {user} keys init\n\
                 Whoever has keys already takes another one: … sealpost --user {user} listen",
                tell(self.expires),
            );
            writeln!(stdout, "{}", secret.as_str())
        };
        printed.and_then(|()| stdout.flush()).map_err(|error| {
            Failure::new(
                Code::Failed,
                format!("the invitation could not be printed: {error}"),
                "make another one, which voids this one",
            )
        })
    }
}

/// Offers a name.
pub(super) fn run(global: GlobalArguments, arguments: InviteArguments) -> Result<(), Failure> {
    let InviteArguments { user, invitation } = arguments;
    let mut target = Target::find(global)?;
    invitation.offer(&mut target, &user, |key, expires| Request::Invite {
        user: user.clone(),
        key,
        expires,
    })
}

fn parse_expiry(text: &str) -> Result<Duration, String> {
    let told = || "write a time such as 30m, 12h or 7d".to_owned();
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number: u64 = digits.parse().map_err(|_| told())?;
    let seconds = match text.get(digits.len()..).unwrap_or_default() {
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(told()),
    };
    match number.checked_mul(seconds).map(Duration::from_secs) {
        Some(expiry) if expiry.is_zero() => Err("an invitation for no time is none".into()),
        Some(expiry) if expiry <= LONGEST => Ok(expiry),
        _ => Err("at most 90d".into()),
    }
}

fn tell(expiry: Duration) -> String {
    let seconds = expiry.as_secs();
    for (unit, name) in [(24 * 60 * 60, "days"), (60 * 60, "hours")] {
        if seconds >= 2 * unit && seconds.is_multiple_of(unit) {
            return format!("{} {name}", seconds / unit);
        }
    }
    format!("{} minutes", seconds / 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_and_a_bound() {
        for (text, minutes, told) in [
            ("30m", 30, "30 minutes"),
            ("12h", 720, "12 hours"),
            ("7d", 10_080, "7 days"),
            ("90d", 129_600, "90 days"),
        ] {
            let expiry = parse_expiry(text).unwrap();
            assert_eq!(expiry, Duration::from_secs(minutes * 60));
            assert_eq!(tell(expiry), told);
        }
        for bad in [
            "",
            "d",
            "0d",
            "7",
            "7w",
            "-1d",
            "91d",
            "1.5d",
            "99999999999999999999d",
        ] {
            assert!(parse_expiry(bad).is_err(), "{bad}");
        }
    }
}
