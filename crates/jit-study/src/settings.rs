//! Settings as dotted keys: laying them over a configuration, and telling two apart.

use jit_train::compatibility::Difference;
use toml::{Table, Value};

/// Every `section.key` of a table with its value, in order.
pub fn leaves(table: &Table) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) => {
                let inner = leaves(inner).into_iter();
                found.extend(inner.map(|(path, value)| (format!("{key}.{path}"), value)));
            }
            value => found.push((key.clone(), value)),
        }
    }
    found
}

/// The value at a dotted path.
pub fn get<'a>(table: &'a Table, path: &str) -> Option<&'a Value> {
    match path.split_once('.') {
        None => table.get(path),
        Some((section, rest)) => get(table.get(section)?.as_table()?, rest),
    }
}

/// Sets the value at a dotted path, making sections as needed.
pub fn put(table: &mut Table, path: &str, value: Value) {
    let Some((section, rest)) = path.split_once('.') else {
        table.insert(path.to_string(), value);
        return;
    };
    let inner = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
    if !inner.is_table() {
        *inner = Value::Table(Table::new());
    }
    if let Value::Table(inner) = inner {
        put(inner, rest, value);
    }
}

/// The keys in which two tables differ, `-` standing for one that is absent.
pub fn differences(saved: &Table, now: &Table) -> Vec<Difference> {
    let text = |value: Option<&Value>| value.map_or("-".into(), ToString::to_string);
    let mut keys: Vec<String> = leaves(saved).into_iter().map(|(key, _)| key).collect();
    keys.extend(
        leaves(now).into_iter().map(|(key, _)| key).filter(|key| get(saved, key).is_none()),
    );
    let told = keys.into_iter().map(|key| {
        let (saved, now) = (text(get(saved, &key)), text(get(now, &key)));
        Difference { key, saved, now }
    });
    told.filter(|difference| difference.saved != difference.now).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read_written_and_compared_by_dotted_keys() {
        let saved: Table = "a = 1\n[s]\nb = 2\n[s.t]\nc = [3]".parse().unwrap();
        let keys: Vec<String> = leaves(&saved).into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["a", "s.b", "s.t.c"]);
        assert_eq!(get(&saved, "s.b"), Some(&Value::Integer(2)));
        assert_eq!((get(&saved, "s.x"), get(&saved, "a.b")), (None, None));
        let mut now = saved.clone();
        put(&mut now, "s.b", Value::Integer(9));
        put(&mut now, "n.m", Value::Boolean(true));
        let told: Vec<String> = differences(&saved, &now)
            .into_iter()
            .map(|d| format!("{} {} {}", d.key, d.saved, d.now))
            .collect();
        assert_eq!(told, ["s.b 2 9", "n.m - true"]);
    }
}
