//! How a section of a spec is read and written: each is a type with a message, and the members of a
//! registry are sections of their own.

use std::fmt::Display;

use crate::job::Violations;

/// A part of a spec that reads, judges and writes itself.
pub trait Section: Sized {
    /// The message of a client.
    type Message;
    /// Its name in a spec.
    const NAME: &str;
    /// Its fields that may change when a job goes on: nothing that a checkpoint holds depends on
    /// them.
    const EDITABLE: &[&str] = &[];

    /// Reads a message, defaults filled in; None where it is wrong, which is told.
    fn read(message: &Self::Message, fields: Fields<'_>) -> Option<Self>;

    /// The message that it was read from, every default filled in.
    fn to_proto(&self) -> Self::Message;
}

/// The fields of a section as they are read: where it stands in a spec, and the mistakes so far.
pub struct Fields<'a> {
    path: String,
    wrong: &'a mut Violations,
    before: usize,
    may_lack_target: bool,
}

impl<'a> Fields<'a> {
    /// The fields of the section at that path.
    pub fn new(path: impl Into<String>, wrong: &'a mut Violations) -> Self {
        let before = wrong.0.len();
        Self { path: path.into(), wrong, before, may_lack_target: false }
    }

    /// The same, of a set whose examples may lack their targets.
    pub fn lacking_targets(self, may_lack_target: bool) -> Self {
        Self { may_lack_target, ..self }
    }

    /// Whether they are those of a set whose examples may lack their targets.
    pub fn may_lack_target(&self) -> bool {
        self.may_lack_target
    }

    /// The fields of a section in this one.
    pub fn within(&mut self, name: &str) -> Fields<'_> {
        Fields::new(format!("{}.{name}", self.path), self.wrong).lacking_targets(self.may_lack_target)
    }

    /// Tells that a field is wrong.
    pub fn wrong(&mut self, field: &str, what: impl Into<String>) {
        self.wrong.add(format!("{}.{field}", self.path), what);
    }

    /// Tells that the section itself is wrong.
    pub fn wrong_itself(&mut self, what: impl Into<String>) {
        self.wrong.add(self.path.clone(), what);
    }

    /// Demands that a field is right: tells what was found and what is needed where it is not.
    pub fn demand(&mut self, field: &str, is_right: bool, found: impl Display, needed: &str) {
        if !is_right {
            self.wrong(field, format!("is {found}; {needed} is needed"));
        }
    }

    /// The same of a field without a default: one that is left out cannot be told from 0.
    pub fn demand_given<T: Display + Default + PartialEq>(
        &mut self,
        field: &str,
        is_right: bool,
        found: T,
        needed: &str,
    ) {
        if !is_right && found == T::default() {
            self.wrong(field, format!("is missing or 0; {needed} is needed"));
        } else {
            self.demand(field, is_right, found, needed);
        }
    }

    /// A probability: at least 0 and below 1.
    pub fn probability(&mut self, field: &str, found: f64) -> f64 {
        self.demand(field, (0.0..1.0).contains(&found), found, "a probability of at least 0 and below 1");
        found
    }

    /// A number of at least 0 and below 1.
    pub fn share(&mut self, field: &str, found: f64) -> f64 {
        self.demand(field, (0.0..1.0).contains(&found), found, "at least 0 and below 1");
        found
    }

    /// A number of at least 0 and at most 1.
    pub fn ratio(&mut self, field: &str, found: f64) -> f64 {
        self.demand(field, (0.0..=1.0).contains(&found), found, "at least 0 and at most 1");
        found
    }

    /// The share that remains of a falling number: above 0 and at most 1.
    pub fn factor(&mut self, field: &str, found: f64) -> f64 {
        self.demand(field, found > 0.0 && found <= 1.0, found, "above 0 and at most 1");
        found
    }

    /// A finite number of at least 0.
    pub fn not_negative(&mut self, field: &str, found: f64) -> f64 {
        self.demand(field, found.is_finite() && found >= 0.0, found, "a finite number of at least 0");
        found
    }

    /// A finite number above 0.
    pub fn positive(&mut self, field: &str, found: f64) -> f64 {
        self.demand(field, found.is_finite() && found > 0.0, found, "a finite number above 0");
        found
    }

    /// A count of at least 1.
    pub fn at_least_one(&mut self, field: &str, found: Option<u32>, default: u32) -> u32 {
        self.demand(field, found != Some(0), 0, "at least 1");
        found.unwrap_or(default)
    }

    /// A value, if nothing of the section was wrong.
    pub fn done<T>(self, value: T) -> Option<T> {
        (self.wrong.0.len() == self.before).then_some(value)
    }
}

/// Makes the enum of a registry: one line a member, which is a [`Section`] in a file of its own.
/// `$kind` is the `oneof` of the message, and `$rules` the trait that all members have.
macro_rules! registry {
    ($(#[$about:meta])* $name:ident as $rules:path, from $kind:ident, {
        $($(#[$member_about:meta])* $member:ident($section:ty)),+ $(,)?
    }) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq)]
        pub enum $name {
            $($(#[$member_about])* $member($section)),+
        }

        impl $name {
            /// The names of all, as a spec has them.
            pub const NAMES: &[&str] = &[$(<$section as $crate::job::spec::section::Section>::NAME),+];

            /// Its name in a spec.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$member(_) => <$section as $crate::job::spec::section::Section>::NAME),+
                }
            }

            /// Its fields that may change when a job goes on.
            pub fn editable(&self) -> &'static [&'static str] {
                match self {
                    $(Self::$member(_) => <$section as $crate::job::spec::section::Section>::EDITABLE),+
                }
            }

            /// Reads the one that a message chooses. `choice` is given where it chooses none.
            pub(super) fn choose(
                kind: Option<&$kind>,
                mut fields: $crate::job::spec::section::Fields<'_>,
                choice: &str,
            ) -> Option<Self> {
                match kind {
                    $(Some($kind::$member(message)) => {
                        let fields = fields.within(<$section as $crate::job::spec::section::Section>::NAME);
                        $crate::job::spec::section::Section::read(message, fields).map(Self::$member)
                    })+
                    None => {
                        fields.wrong_itself(format!("{choice}: {}", Self::NAMES.join(", ")));
                        None
                    }
                }
            }

            /// The choice that it was read from, every default filled in.
            pub(super) fn to_kind(&self) -> $kind {
                match self {
                    $(Self::$member(member) => {
                        $kind::$member($crate::job::spec::section::Section::to_proto(member))
                    })+
                }
            }
        }

        impl std::ops::Deref for $name {
            type Target = dyn $rules;

            fn deref(&self) -> &Self::Target {
                match self {
                    $(Self::$member(member) => member),+
                }
            }
        }

        impl std::ops::DerefMut for $name {
            fn deref_mut(&mut self) -> &mut Self::Target {
                match self {
                    $(Self::$member(member) => member),+
                }
            }
        }
    };
}
pub(super) use registry;
