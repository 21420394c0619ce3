//! Days, as the catalogue writes them and requests ask for them.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use serde::Deserialize;
use toml::value::Datetime;

/// A day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "Datetime")]
pub struct Date {
    year: u16,
    month: u8,
    day: u8,
}

impl Date {
    /// The day of a moment, in UTC.
    pub fn of(moment: SystemTime) -> Self {
        let text = humantime::format_rfc3339_seconds(moment.max(SystemTime::UNIX_EPOCH)).to_string();
        text.get(..10).and_then(|day| day.parse().ok()).unwrap_or(Self { year: 1970, month: 1, day: 1 })
    }
}

impl FromStr for Date {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<Datetime>()
            .map_err(|_| ())
            .and_then(|parsed| Self::try_from(parsed).map_err(|_| ()))
            .map_err(|()| format!("is {text:?}; a day as YYYY-MM-DD is needed, such as 2020-10-01"))
    }
}

impl TryFrom<Datetime> for Date {
    type Error = &'static str;

    fn try_from(parsed: Datetime) -> Result<Self, Self::Error> {
        match parsed {
            Datetime { date: Some(date), time: None, offset: None } => {
                Ok(Self { year: date.year, month: date.month, day: date.day })
            }
            _ => Err("a day without a time is needed, such as 2020-10-01"),
        }
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn days_are_read_shown_and_compared() {
        let day: Date = "2020-10-01".parse().unwrap();
        assert_eq!(day.to_string(), "2020-10-01");
        assert!(day > "2020-09-30".parse().unwrap() && day < "2021-01-01".parse().unwrap());
        assert_eq!(Date::of(SystemTime::UNIX_EPOCH + Duration::from_secs(1_601_510_400)), day);
        for text in ["", "2020", "2020-13-01", "2020-02-30", "01.10.2020", "2020-10-01T00:00:00Z", "10:00:00"] {
            assert!(text.parse::<Date>().is_err(), "{text:?}");
        }
    }
}
