//! Letters in a mailbox. Anybody with write access to the shared folder may have written them. None
//! costs more memory than its frames take, and none with a wrong seal is taken.

#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use torchd::access::SealKey;
use torchd::beneath::Folder;
use torchd::mailbox;
use torchd_fuzz::memory::bounded;
use torchd_fuzz::scratch;

/// The seed is a letter by this token and name.
const TOKEN: &str = "torchd_0101010101010101010101010101010101010101010101010101010101010101";
const NAME: &str = "0-0000000000000007-1.request";

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| scratch::folder("letter"));

fuzz_target!(|data: &[u8]| {
    std::fs::write(FOLDER.join(NAME), data).unwrap();
    let key = SealKey::of_token(TOKEN).unwrap();
    let read = |name: &str| mailbox::read_letter(Folder::open(&FOLDER).unwrap(), name, &key);
    // The longest head is read as JSON.
    let content = bounded((1 << 20) + 4 * data.len(), || read(NAME));
    if let Ok(Some(content)) = content {
        assert!(content.len() < data.len());
    }
    assert!(!matches!(read(&NAME.replace("-1.", "-2.")), Ok(Some(_))));
});
