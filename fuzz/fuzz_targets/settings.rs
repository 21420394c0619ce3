//! The settings: a file, and the environment over it. Valid settings come back the same from the
//! output of `--check-config`.
//!
//! Behind a zero byte follows the environment, each `NAME=VALUE` behind one.

#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use torchd::config::{Environment, Flags, load, to_toml};
use torchd_fuzz::memory::bounded;
use torchd_fuzz::scratch;

/// Nobody is asked for the addresses of hosts, which would take seconds; those that are numbers
/// need nobody.
#[unsafe(no_mangle)]
extern "C" fn getaddrinfo(_: *const u8, _: *const u8, _: *const u8, _: *mut *mut u8) -> i32 {
    const EAI_NONAME: i32 = -2;
    EAI_NONAME
}

static FILES: LazyLock<(PathBuf, PathBuf)> = LazyLock::new(|| {
    let folder = scratch::folder("settings");
    (folder.join("torchd.toml"), folder.join("printed.toml"))
});

fuzz_target!(|data: &[u8]| {
    let Ok(content) = std::str::from_utf8(data) else { return };
    let mut parts = content.split('\0');
    let (file, printed) = &*FILES;
    fs::write(file, parts.next().unwrap_or_default()).unwrap();
    let mut environment = Environment::from([("HOME".to_owned(), "/home/a".to_owned())]);
    environment.extend(parts.filter_map(|part| part.split_once('=')).map(|(name, value)| (name.into(), value.into())));
    let flags = |file: &PathBuf| Flags { config: Some(file.clone()), ..Flags::default() };
    // A level of logging is a pattern that is compiled.
    match bounded((16 << 20) + 512 * data.len(), || load(&flags(file), &environment, 4)) {
        Ok(settings) => {
            let text = to_toml(&settings);
            fs::write(printed, &text).unwrap();
            match load(&flags(printed), &Environment::new(), 4) {
                Ok(again) => assert_eq!(again, settings, "{text}"),
                Err(invalid) => panic!("{text}\n{invalid}"),
            }
        }
        Err(invalid) => {
            assert!(!invalid.0.is_empty());
            for mistake in &invalid.0 {
                assert!(!mistake.what.is_empty(), "{mistake:?}");
            }
            assert!(invalid.to_string().contains("mistake"));
        }
    }
});
