//! The time of day.

use jiff::Timestamp;

/// Now, as RFC 3339 in UTC, to the second.
pub fn now() -> String {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn now_is_a_time_in_utc_to_the_second() {
        let text = now();
        assert_eq!(
            (text.len(), text.ends_with('Z')),
            ("2026-01-02T03:04:05Z".len(), true),
            "{text}"
        );
        let read: Timestamp = text.parse().unwrap();
        assert!((Timestamp::now().as_second() - read.as_second()).abs() < 5);
    }
}
