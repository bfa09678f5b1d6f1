//! Values of keys: what they may be, and how they are read from text (environment, flags, defaults) and from TOML.

use std::collections::BTreeMap;

use toml_edit::Item;

use super::keys::Key;
use crate::base::secret::Secret;

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Any text that is not empty.
    Text,
    /// A whole number within these bounds, both included.
    Whole(u64, u64),
    /// A decimal number within these bounds, both included.
    Decimal(f64, f64),
    /// `true` or `false`.
    Bool,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A list of texts.
    List,
    /// A table of secret texts with free names.
    Secrets,
}

/// A key's value.
#[derive(Clone, PartialEq)]
pub enum Value {
    /// Not set, and there is no default.
    Unset,
    /// A text or word.
    Text(String),
    /// A whole number.
    Whole(u64),
    /// A decimal number.
    Decimal(f64),
    /// Yes or no.
    Bool(bool),
    /// A list of texts.
    List(Vec<String>),
    /// A secret text; kept apart so that nothing prints it.
    Hidden(Secret),
    /// Secret texts by name.
    Secrets(BTreeMap<String, Secret>),
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.toml())
    }
}

impl Value {
    /// Reads a value as it is written in the environment: plain, lists as JSON or separated by commas.
    ///
    /// # Errors
    /// What was expected, and of what type something else was found; never a value.
    pub(crate) fn parse(key: &Key, text: &str) -> Result<Self, String> {
        let text = text.trim();
        let value = match key.kind {
            // `--set engine.api_key=` takes the file's value back.
            Kind::Text if text.is_empty() => return key.default_value(),
            Kind::Text | Kind::OneOf(_) => Some(Self::Text(text.to_owned())),
            Kind::Whole(..) => text.parse().ok().map(Self::Whole),
            Kind::Decimal(..) => text.parse().ok().map(Self::Decimal),
            Kind::Bool => match text {
                "true" | "1" | "yes" | "on" => Some(Self::Bool(true)),
                "false" | "0" | "no" | "off" => Some(Self::Bool(false)),
                _ => None,
            },
            Kind::Secrets => serde_json::from_str::<BTreeMap<String, Secret>>(text).ok().map(Self::Secrets),
            Kind::List if text.starts_with('[') => serde_json::from_str(text).ok().map(Self::List),
            Kind::List => Some(Self::List(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect())),
        };
        value.ok_or_else(|| key.expected())?.checked(key)
    }

    /// Reads a value of the file.
    ///
    /// # Errors
    /// As [`Value::parse`].
    pub(crate) fn from_toml(key: &Key, item: &Item) -> Result<Self, String> {
        let value = match key.kind {
            // As the file of all defaults shows what is not set.
            Kind::Text if item.as_str() == Some("") => return key.default_value(),
            Kind::Text | Kind::OneOf(_) => item.as_str().map(|text| Self::Text(text.to_owned())),
            Kind::Whole(..) => match item.as_integer() {
                Some(n) => Some(Self::Whole(u64::try_from(n).map_err(|_| key.expected())?)),
                None => None,
            },
            Kind::Decimal(..) => item.as_float().or_else(|| item.as_integer().map(|n| n as f64)).map(Self::Decimal),
            Kind::Bool => item.as_bool().map(Self::Bool),
            Kind::List => item
                .as_array()
                .and_then(|items| items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>())
                .map(Self::List),
            Kind::Secrets => item
                .as_table_like()
                .and_then(|table| {
                    table.iter().map(|(name, item)| Some((name.to_owned(), Secret::new(item.as_str()?)))).collect::<Option<_>>()
                })
                .map(Self::Secrets),
        };
        value.ok_or_else(|| format!("{}, found {}", key.expected(), found(item)))?.checked(key)
    }

    /// As it is written in TOML; a secret as `"***"`, nothing for what is not set.
    pub fn toml(&self) -> String {
        let quoted = |text: &str| toml_edit::Value::from(text).to_string().trim().to_owned();
        match self {
            Self::Unset => String::new(),
            Self::Text(text) => quoted(text),
            Self::Hidden(secret) => quoted(&secret.to_string()),
            Self::Secrets(table) => {
                let pairs: Vec<String> =
                    table.iter().map(|(name, secret)| format!("{} = {}", quoted(name), quoted(&secret.to_string()))).collect();
                if pairs.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", pairs.join(", ")) }
            }
            Self::Whole(n) => n.to_string(),
            Self::Decimal(n) => format!("{n:?}"),
            Self::Bool(yes) => yes.to_string(),
            Self::List(items) => format!("[{}]", items.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", ")),
        }
    }

    fn checked(self, key: &Key) -> Result<Self, String> {
        let good = match (&self, key.kind) {
            (Self::Whole(n), Kind::Whole(min, max)) => (min..=max).contains(n),
            (Self::Decimal(n), Kind::Decimal(min, max)) => (min..=max).contains(n),
            (Self::Text(text), Kind::OneOf(words)) => words.contains(&text.as_str()),
            (Self::Text(text), _) => !text.is_empty() && !text.contains(['\0', '\n', '\r']),
            (Self::List(items), _) => items.iter().all(|item| !item.is_empty() && !item.contains(['\0', '\n', '\r'])),
            _ => true,
        };
        if !good {
            return Err(key.expected());
        }
        (key.check)(&self).map_err(|expected| format!("expected {expected}"))?;
        Ok(match self {
            Self::Text(text) if key.secret => Self::Hidden(Secret::new(text)),
            other => other,
        })
    }
}

/// A TOML item in a word, never its value.
fn found(item: &Item) -> &'static str {
    match item {
        Item::None => "nothing",
        Item::Table(_) | Item::ArrayOfTables(_) => "a table",
        Item::Value(value) => match value {
            toml_edit::Value::String(_) => "a text",
            toml_edit::Value::Integer(_) => "a whole number",
            toml_edit::Value::Float(_) => "a decimal number",
            toml_edit::Value::Boolean(_) => "true or false",
            toml_edit::Value::Datetime(_) => "a date",
            toml_edit::Value::Array(_) => "a list",
            toml_edit::Value::InlineTable(_) => "a table",
        },
    }
}
