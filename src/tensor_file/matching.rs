//! Matches the tensors of a file with those that a model needs: all mistakes at once, each with the
//! way out where there is a usual one.

use std::collections::{HashMap, HashSet};

use super::{Dtype, Tensor, TensorFile, Values};

/// Prefixes that PyTorch's wrappers put before the names of the module in them.
const WRAPPERS: [(&str, &str); 2] = [("module.", "DataParallel"), ("_orig_mod.", "torch.compile")];
/// Names or differences that a message lists at most.
const MOST_NAMES: usize = 12;
/// Characters of a name that a message shows at most.
const MOST_CHARACTERS: usize = 64;

/// A tensor that a model needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needed {
    /// As in PyTorch's `state_dict`.
    pub name: String,
    /// The type of its values.
    pub dtype: Dtype,
    /// Its sizes, outermost first.
    pub shape: Vec<u64>,
    /// Whether a file is right without it.
    pub can_be_absent: bool,
    /// The values that it may hold. [`fit`] does not look at values.
    pub values: Values,
}

/// Which names of a file count, and what they are called in the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Whether the file has to have every tensor that is needed, and no other.
    pub strict: bool,
    /// The first rule whose prefix a name of the file has replaces that prefix.
    pub rename: Vec<Rename>,
    /// Patterns of names of the model, in which `*` stands for any text. Only tensors that one of
    /// them describes are taken, and missed; without patterns all.
    pub only: Vec<String>,
}

impl Default for Rules {
    fn default() -> Self {
        Self { strict: true, rename: Vec::new(), only: Vec::new() }
    }
}

/// A prefix of names in a file, and what stands there instead in the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    /// In the file; "" for all names.
    pub prefix: String,
    /// In the model; "" where the prefix is dropped.
    pub name: String,
}

/// A mismatch of a file, or of a rule, with the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// With what.
    pub about: About,
    /// In words that follow the file's path, or the rule.
    pub what: String,
    /// The change of the rules that would mend it, where there is a usual one.
    pub way_out: Option<String>,
}

impl Mistake {
    fn new(about: About, what: String) -> Self {
        Self { about, what, way_out: None }
    }

    /// The mistake, with the way out.
    pub fn with_way_out(&self) -> String {
        self.way_out.as_ref().map_or_else(|| self.what.clone(), |way_out| format!("{}; {way_out}", self.what))
    }
}

/// The subject of a mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// The file.
    File,
    /// The rule of [`Rules::rename`] with that place.
    Rename(usize),
    /// The pattern of [`Rules::only`] with that place.
    Only(usize),
}

/// For each tensor that is needed the place in the file's list of the one that is taken for it;
/// None where it keeps the values that it has.
///
/// # Errors
/// All that does not fit.
pub fn fit(needed: &[Needed], file: &TensorFile, rules: &Rules) -> Result<Vec<Option<usize>>, Vec<Mistake>> {
    let mut wrong = Vec::new();
    let wanted: Vec<_> = needed.iter().filter(|needed| is_wanted(&needed.name, rules)).collect();
    for (place, pattern) in rules.only.iter().enumerate() {
        if !needed.iter().any(|needed| describes(pattern, &needed.name)) {
            let names = list(needed.iter().map(|needed| needed.name.as_str()));
            let what = format!("{:?} describes none of the model's tensors, which are {names}", cut(pattern));
            wrong.push(Mistake::new(About::Only(place), what));
        }
    }
    let has = renamed(file, rules, &mut wrong);

    let (mut taken, mut same) = (HashMap::new(), Vec::new());
    for (name, place) in &has {
        if let Some(other) = taken.insert(name.as_str(), *place) {
            let [one, other] = [other, *place].map(|place| cut(&file.tensors[place].name));
            same.push(format!("{one} and {other}, which both become {}", cut(name)));
        }
    }
    if !same.is_empty() {
        wrong.push(Mistake::new(About::File, format!("has {}", first_of(&same, "; "))));
    }
    let differs = |needed: &&Needed| difference(needed, &file.tensors[*taken.get(needed.name.as_str())?]);
    let differ: Vec<_> = wanted.iter().filter_map(differs).collect();
    if !differ.is_empty() {
        wrong.push(Mistake::new(About::File, format!("holds other tensors: {}", first_of(&differ, "; "))));
    }
    let is_missing = |needed: &&&Needed| !needed.can_be_absent && !taken.contains_key(needed.name.as_str());
    let missing = wanted.iter().filter(is_missing);
    let missing: Vec<_> = missing.map(|needed| needed.name.as_str()).collect();
    let known: HashSet<_> = needed.iter().map(|needed| needed.name.as_str()).collect();
    let is_extra = |name: &str| is_wanted(name, rules) && !known.contains(name);
    let extra: Vec<_> = has.iter().map(|(name, _)| name.as_str()).filter(|name| is_extra(name)).collect();
    let has_none = !wanted.is_empty() && !wanted.iter().any(|needed| taken.contains_key(needed.name.as_str()));
    if has_none || (rules.strict && !(missing.is_empty() && extra.is_empty())) {
        wrong.push(names_differ(&wanted, &has, &missing, &extra, file));
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let of =
        |needed: &Needed| is_wanted(&needed.name, rules).then(|| taken.get(needed.name.as_str()).copied()).flatten();
    Ok(needed.iter().map(of).collect())
}

/// The names of the file's tensors after renaming, with their places. Rules that apply to no name
/// are mistakes.
fn renamed(file: &TensorFile, rules: &Rules, wrong: &mut Vec<Mistake>) -> Vec<(String, usize)> {
    let is_chosen = |key: &&String| rules.rename.iter().any(|rule| is_under(&rule.prefix, key));
    let chosen: Vec<_> = file.state_dicts.iter().filter(is_chosen).collect();
    // A rule for one of several state dicts says that it is the one which is meant.
    let is_left_out = |name: &str| {
        file.state_dicts.len() > 1
            && !chosen.is_empty()
            && file.state_dicts.iter().any(|key| !chosen.contains(&key) && is_under(name, key))
    };
    let mut applied = vec![false; rules.rename.len()];
    let mut names = Vec::with_capacity(file.tensors.len());
    for (place, Tensor { name, .. }) in file.tensors.iter().enumerate().filter(|(_, tensor)| !is_left_out(&tensor.name))
    {
        let mut all = rules.rename.iter().enumerate();
        let rule = all.find_map(|(number, rule)| Some((number, rule, name.strip_prefix(rule.prefix.as_str())?)));
        names.push(match rule {
            Some((number, rule, rest)) => {
                applied[number] = true;
                (format!("{}{rest}", rule.name), place)
            }
            None => (name.clone(), place),
        });
    }
    for (place, _) in applied.iter().enumerate().filter(|(_, applied)| !**applied) {
        let names = list(file.tensors.iter().map(|tensor| tensor.name.as_str()));
        let prefix = cut(&rules.rename[place].prefix);
        let what = format!("{prefix:?} begins no name that an earlier rule has left, and the file has {names}");
        wrong.push(Mistake::new(About::Rename(place), what));
    }
    names
}

/// Whether a name begins with a key and a dot.
fn is_under(name: &str, key: &str) -> bool {
    name.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'))
}

fn is_wanted(name: &str, rules: &Rules) -> bool {
    rules.only.is_empty() || rules.only.iter().any(|pattern| describes(pattern, name))
}

/// Whether a pattern describes a name: `*` stands for any text, also for none.
pub fn describes(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        // The first place leaves most to the parts behind it.
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

fn difference(needed: &Needed, found: &Tensor) -> Option<String> {
    let is_right = found.dtype == needed.dtype && found.shape == needed.shape;
    (!is_right).then(|| {
        let Needed { name, dtype, shape, .. } = needed;
        format!("{} is {} {:?}, {} {shape:?} is needed", cut(name), found.dtype.name(), found.shape, dtype.name())
    })
}

fn names_differ(
    wanted: &[&Needed],
    has: &[(String, usize)],
    missing: &[&str],
    extra: &[&str],
    file: &TensorFile,
) -> Mistake {
    let mut what = format!(
        "has the tensors {}; needed are {}",
        list(has.iter().map(|(name, _)| name.as_str())),
        list(wanted.iter().filter(|needed| !needed.can_be_absent).map(|needed| needed.name.as_str()))
    );
    // Where no name fits the two lists say it.
    if !missing.is_empty() && missing.len() < wanted.len() {
        what += &format!(", missing are {}", list(missing.iter().copied()));
    }
    if !extra.is_empty() && missing.len() < wanted.len() {
        what += &format!(", too many are {}", list(extra.iter().copied()));
    }
    let way_out = if let [one, _, ..] = file.state_dicts.as_slice() {
        let all = file.state_dicts.join(", ");
        Some(format!(
            "it holds several state dicts, {all}: choose one, as with rename = [{{ prefix = \"{one}.\", name = \"\" }}]"
        ))
    } else {
        let is_part = !missing.is_empty() && missing.len() < wanted.len();
        let strict = || is_part.then(|| "strict = false leaves the missing ones as they begin".into());
        prefix_rule(wanted, has).or_else(strict)
    };
    Mistake { about: About::File, what, way_out }
}

/// The rule by which the names become the needed ones, where a prefix is the only difference.
fn prefix_rule(wanted: &[&Needed], has: &[(String, usize)]) -> Option<String> {
    let first = wanted.first()?.name.as_str();
    let names: HashSet<_> = has.iter().map(|(name, _)| name.as_str()).collect();
    let is_there = |name: &str| names.contains(name);
    let all_with = |prefix: &&str| wanted.iter().all(|needed| is_there(&format!("{prefix}{}", needed.name)));
    let mut too_many = has.iter().filter_map(|(name, _)| name.strip_suffix(first)).filter(|prefix| !prefix.is_empty());
    if let Some(prefix) = too_many.find(all_with) {
        let wrapper = WRAPPERS.iter().find(|(known, _)| *known == prefix);
        let who = wrapper.map_or_else(String::new, |(_, wrapper)| format!(", which {wrapper} puts there"));
        let prefix = cut(prefix);
        return Some(format!(
            "all have the prefix {prefix:?}{who}: save them without it, or set rename = [{{ prefix = {prefix:?}, name = \
             \"\" }}]"
        ));
    }
    let all_without =
        |prefix: &&str| wanted.iter().all(|needed| needed.name.strip_prefix(prefix).is_some_and(&is_there));
    let mut too_few = has.iter().filter_map(|(name, _)| first.strip_suffix(name.as_str()));
    let prefix = cut(too_few.find(|prefix| !prefix.is_empty() && all_without(prefix))?);
    Some(format!("all lack the prefix {prefix:?}: set rename = [{{ prefix = \"\", name = {prefix:?} }}]"))
}

/// The first of these names, sorted, and how many more there are.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<_> = names.collect();
    if names.is_empty() {
        return "(none)".into();
    }
    names.sort_unstable();
    let (shown, more) = names.split_at(names.len().min(MOST_NAMES));
    let shown: Vec<_> = shown.iter().map(|name| cut(name)).collect();
    format!("{}{}", shown.join(", "), and_more(more.len()))
}

/// The first of these texts, and how many more there are.
fn first_of(texts: &[String], between: &str) -> String {
    let (shown, more) = texts.split_at(texts.len().min(MOST_NAMES));
    format!("{}{}", shown.join(between), and_more(more.len()))
}

fn and_more(count: usize) -> String {
    if count == 0 { String::new() } else { format!(" and {count} more") }
}

/// A name of somebody else's file, fit for a message: no control characters, and not long.
fn cut(name: &str) -> String {
    let shown: String = name.chars().take(MOST_CHARACTERS).flat_map(char::escape_debug).collect();
    if name.chars().nth(MOST_CHARACTERS).is_some() { format!("{shown}...") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::super::{Format, Layout};
    use super::*;

    const SHAPES: [(&str, &[u64]); 4] =
        [("conv.weight", &[2, 1, 3]), ("conv.bias", &[2]), ("fc.weight", &[4, 2]), ("fc.bias", &[4])];

    fn needed() -> Vec<Needed> {
        let needed = |(name, shape): (&str, &[u64])| Needed {
            name: name.into(),
            dtype: Dtype::F32,
            shape: shape.into(),
            can_be_absent: false,
            values: Values::Finite,
        };
        SHAPES.into_iter().map(needed).collect()
    }

    fn tensor(name: &str, dtype: Dtype, shape: &[u64]) -> Tensor {
        let layout = Layout { offset: 0, storage_bytes: 0, first: 0, strides: vec![0; shape.len()] };
        Tensor { name: name.into(), dtype, shape: shape.into(), layout }
    }

    /// The tensors that the model needs, each name with that prefix.
    fn with(prefix: &str) -> Vec<Tensor> {
        SHAPES.map(|(name, shape)| tensor(&format!("{prefix}{name}"), Dtype::F32, shape)).into()
    }

    fn file(tensors: Vec<Tensor>) -> TensorFile {
        TensorFile { format: Format::Pt, tensors, state_dicts: Vec::new(), left_out: 0 }
    }

    fn rename(rules: &[(&str, &str)]) -> Rules {
        let rename = rules.iter().map(|(prefix, name)| Rename { prefix: (*prefix).into(), name: (*name).into() });
        Rules { rename: rename.collect(), ..Rules::default() }
    }

    fn only(patterns: &[&str]) -> Rules {
        Rules { only: patterns.iter().map(|&pattern| pattern.into()).collect(), ..Rules::default() }
    }

    fn loose(rules: Rules) -> Rules {
        Rules { strict: false, ..rules }
    }

    fn places(file: &TensorFile, rules: &Rules) -> Vec<Option<usize>> {
        fit(&needed(), file, rules).unwrap()
    }

    #[test]
    fn names_are_matched_as_the_rules_say() {
        let all = [Some(0), Some(1), Some(2), Some(3)];
        assert_eq!(places(&file(with("")), &Rules::default()), all);
        let mut reversed = with("");
        reversed.reverse();
        assert_eq!(places(&file(reversed), &Rules::default()), [Some(3), Some(2), Some(1), Some(0)]);
        assert_eq!(places(&file(with("module.")), &rename(&[("module.", "")])), all);
        let rules = rename(&[("backbone.conv.", "conv."), ("backbone.", "")]);
        assert_eq!(places(&file(with("backbone.")), &rules), all);
        // Tensors that are not wanted may be missing, be there, and be of any shape.
        let mut odd = with("");
        odd[0].dtype = Dtype::F16;
        odd.remove(1);
        odd.push(tensor("head.weight", Dtype::F32, &[7]));
        assert_eq!(places(&file(odd.clone()), &only(&["fc.*"])), [None, None, Some(1), Some(2)]);
        odd.remove(0);
        assert_eq!(places(&file(odd), &loose(Rules::default())), [None, None, Some(0), Some(1)]);
        // One of two state dicts is chosen by its rule.
        let mut two = file([with("model."), with("ema.net.")].concat());
        two.state_dicts = vec!["model".into(), "ema".into()];
        assert_eq!(places(&two, &rename(&[("ema.net.", "")])), [4, 5, 6, 7].map(Some));
        assert_eq!(places(&two, &rename(&[("model.", "")])), all);
    }

    #[test]
    fn every_difference_is_told_at_once_with_the_way_out() {
        let changed = |name: &str, dtype: Dtype, shape: &[u64]| {
            let mut all = with("");
            *all.iter_mut().find(|has| has.name == name).unwrap() = tensor(name, dtype, shape);
            file(all)
        };
        let strict = Rules::default();
        let more = file([with(""), vec![tensor("head.\u{1b}[2J", Dtype::F32, &[2])]].concat());
        let many = (0..100).map(|index| tensor(&format!("layer.{index:03}"), Dtype::F32, &[1]));
        let mut two = file([with("model."), with("state_dict.")].concat());
        two.state_dicts = vec!["model".into(), "state_dict".into()];
        let twice = file([with(""), with("module.")].concat());
        let mut several = changed("fc.bias", Dtype::F16, &[4]);
        several.tensors.remove(0);
        for (file, rules, words) in [
            (
                file(with("module.")),
                &strict,
                &[
                    "has the tensors module.conv.bias",
                    "needed are conv.bias",
                    r#"the prefix "module.", which DataParallel"#,
                    r#"set rename = [{ prefix = "module.", name = "" }]"#,
                ][..],
            ),
            (file(with("_orig_mod.")), &strict, &[r#""_orig_mod.", which torch.compile"#]),
            (file(with("net.")), &strict, &[r#"the prefix "net.": save"#]),
            (file(with("net.")), &loose(Rules::default()), &["needed are conv.bias", r#"the prefix "net.""#]),
            (file(with("")[1..].to_vec()), &strict, &["missing are conv.weight", "strict = false"]),
            (more, &strict, &[r"too many are head.\u{1b}[2J"]),
            (file(many.collect()), &strict, &["layer.011 and 88 more"]),
            (file(vec![]), &strict, &["has the tensors (none)"]),
            (changed("fc.weight", Dtype::F32, &[2, 4]), &strict, &["fc.weight is F32 [2, 4], F32 [4, 2] is needed"]),
            (
                changed("fc.bias", Dtype::F16, &[4]),
                &loose(Rules::default()),
                &["fc.bias is F16 [4], F32 [4] is needed"],
            ),
            (several, &strict, &["fc.bias is F16", "missing are conv.weight"]),
            (two, &strict, &["several state dicts, model, state_dict", r#"prefix = "model.""#]),
            (twice, &rename(&[("module.", "")]), &["which both become conv.weight"]),
            (file(with("")), &rename(&[("modul.", "")]), &[r#"Rename(0): "modul." begins no name"#]),
            (file(with("")), &only(&["fc.*", "head*"]), &[r#"Only(1): "head*" describes none"#]),
        ] {
            let wrong = fit(&needed(), &file, rules).unwrap_err();
            let told = |wrong: &Mistake| format!("{:?}: {}\n", wrong.about, wrong.with_way_out());
            let told: String = wrong.iter().map(told).collect();
            assert!(words.iter().all(|word| told.contains(word)), "{words:?}: {told}");
        }
        let mut deep = needed();
        deep.iter_mut().for_each(|needed| needed.name.insert_str(0, "encoder."));
        let wrong = fit(&deep, &file(with("")), &strict).unwrap_err();
        let way_out = wrong[0].way_out.as_deref().unwrap_or_default();
        assert!(way_out.contains(r#"rename = [{ prefix = "", name = "encoder." }]"#), "{wrong:?}");
    }

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, is_described) in [
            ("fc.weight", "fc.weight", true),
            ("fc.weight", "fc.weight2", false),
            ("fc.*", "fc.", true),
            ("*.weight", "a.b.weight", true),
            ("*.weight", "weight", false),
            ("a*b*c", "axbxbxc", true),
            ("a*b*c", "axc", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*a", "a", false),
            ("**", "a", true),
        ] {
            assert_eq!(describes(pattern, name), is_described, "{pattern} {name}");
        }
    }
}
