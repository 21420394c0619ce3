//! The images of a folder: each folder in it is a class, and all images below that are its own.
//! Those that are to be answered may lie in the folder itself.

use super::MOST_TOLD;
use crate::beneath::{self, Folder};
use crate::gate::Wanted;

/// Sets of more images are refused: their names are in memory.
pub(super) const MAX_IMAGES: usize = 20_000_000;
/// Folders that lie deeper in each other are not looked into.
const MAX_DEPTH: usize = 8;
/// The ends of names of files that are read.
const READ: [&str; 3] = ["jpg", "jpeg", "png"];
/// The ends of names of images that are not.
const NOT_READ: [&str; 12] = ["avif", "bmp", "gif", "heic", "heif", "jp2", "pgm", "ppm", "tga", "tif", "tiff", "webp"];
/// Names of sets. A folder that has no others is not a set but holds them.
const SETS: [&str; 6] = ["train", "training", "val", "valid", "validation", "test"];

/// The images of a folder, in the order of their paths within each class.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct List {
    /// The names of the classes, sorted; empty where the images have none.
    pub classes: Vec<String>,
    /// The images, class by class.
    pub images: Vec<Entry>,
}

/// An image.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its class; 0 where it has none.
    pub class: u32,
    /// Its path below the folder.
    pub path: Box<str>,
}

/// The mistake of a folder: the path below it, and the words that follow.
#[derive(Debug)]
pub(super) enum Wrong {
    /// The system refuses, or nobody waits for it.
    Unreadable(String, std::io::Error),
    /// Something else.
    Found(String, String),
    /// Images of other formats, by their names: the first of them, and how many there are.
    Others(Vec<(String, String)>, u64),
}

/// The images that a walk over a folder meets.
#[derive(Default)]
struct Met {
    /// Those that are read.
    images: Vec<Entry>,
    /// The first of those of other formats.
    others: Vec<(String, String)>,
    /// How many of these there are.
    count: u64,
}

impl List {
    /// The images below an open folder. Names that begin with a dot are passed over, and so are
    /// files that are no images by their name. Images that may lack their classes may lie in the folder
    /// itself.
    pub(super) fn of(root: &Folder, may_lack_classes: bool, wanted: &Wanted) -> Result<Self, Wrong> {
        let unreadable = |error| Wrong::Unreadable(String::new(), error);
        let entries = root.entries_of_others(is_shown).map_err(unreadable)?;
        let (mut classes, mut met) = (Vec::new(), Met::default());
        let has_loose = entries.iter().any(|entry| entry.is_file && is_image(&entry.name));
        for entry in entries.iter().filter(|entry| is_shown(&entry.name)) {
            if !entry.is_folder {
                if !entry.is_file {
                    return Err(neither(entry.name.clone()));
                }
                continue;
            }
            let class = u32::try_from(classes.len()).unwrap_or(u32::MAX);
            let before = (met.images.len(), met.count);
            add(root, &entry.name, class, 1, &mut met, wanted)?;
            if (met.images.len(), met.count) == before {
                let what = "holds no image (.jpg, .jpeg, .png), and each folder is a class".into();
                return Err(Wrong::Found(entry.name.clone(), what));
            }
            classes.push(entry.name.clone());
        }
        if classes.is_empty() && may_lack_classes {
            for entry in entries.iter().filter(|entry| is_shown(&entry.name)) {
                add_file(entry, entry.name.clone(), 0, &mut met)?;
            }
        }
        let Met { images, others, count } = met;
        if count > 0 {
            return Err(Wrong::Others(others, count));
        }
        if classes.is_empty() && !images.is_empty() {
            return Ok(Self { classes, images });
        }
        let found = |what: String| Err(Wrong::Found(String::new(), what));
        if classes.is_empty() {
            let loose = if has_loose { "images, and no folder of them" } else { "no folder of images" };
            let right = "each class is a folder, whose name is its own, unless a table lists the images";
            return found(format!("holds {loose}; {right}"));
        }
        if classes.iter().all(|class| SETS.contains(&class.to_ascii_lowercase().as_str())) {
            let names = classes.join(", ");
            return found(format!("holds the folders {names}, which are sets and no classes; name each as a set"));
        }
        Ok(Self { classes, images })
    }
}

/// Adds the images of a folder below the root and of those in it.
fn add(root: &Folder, path: &str, class: u32, depth: usize, met: &mut Met, wanted: &Wanted) -> Result<(), Wrong> {
    let unreadable = |error| Wrong::Unreadable(path.into(), error);
    wanted.check().map_err(unreadable)?;
    let entries = root.folder(path).and_then(|folder| folder.entries_of_others(is_shown)).map_err(unreadable)?;
    for entry in entries.into_iter().filter(|entry| is_shown(&entry.name)) {
        let path = format!("{path}/{}", entry.name);
        if entry.is_folder {
            if depth == MAX_DEPTH {
                return Err(Wrong::Found(path, format!("lies deeper than {MAX_DEPTH} folders")));
            }
            add(root, &path, class, depth + 1, met, wanted)?;
        } else {
            add_file(&entry, path, class, met)?;
        }
    }
    Ok(())
}

/// Names that begin with a dot are passed over.
fn is_shown(name: &str) -> bool {
    !name.starts_with('.')
}

/// Adds what is no folder, where it is an image.
fn add_file(entry: &beneath::Entry, path: String, class: u32, met: &mut Met) -> Result<(), Wrong> {
    let Met { images, others, count } = met;
    if let Some(end) = end_of(&entry.name, &NOT_READ) {
        *count += 1;
        if others.len() < MOST_TOLD {
            others.push((path, format!("is a .{end} file; images are .jpg, .jpeg or .png: convert it")));
        }
        return Ok(());
    }
    if !entry.is_file {
        return Err(neither(path));
    }
    if is_image(&entry.name) {
        if images.len() == MAX_IMAGES {
            return Err(Wrong::Found(String::new(), format!("holds more than {MAX_IMAGES} images")));
        }
        images.push(Entry { class, path: path.into() });
    }
    Ok(())
}

fn neither(path: String) -> Wrong {
    Wrong::Found(path, "is a link, pipe or device, and links are not followed; put the file itself there".into())
}

/// Whether a file of that name is an image.
pub(in super::super) fn is_image(name: &str) -> bool {
    end_of(name, &READ).is_some()
}

/// The end of a name behind its last dot, where it is one of these.
fn end_of(name: &str, ends: &[&'static str]) -> Option<&'static str> {
    let (_, end) = name.rsplit_once('.')?;
    ends.iter().copied().find(|known| end.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use super::*;

    fn list(root: &std::path::Path) -> Result<List, String> {
        list_of(root, false)
    }

    fn list_of(root: &std::path::Path, may_lack_classes: bool) -> Result<List, String> {
        let (_caller, wanted) = Wanted::by_caller();
        List::of(&Folder::open(root).unwrap(), may_lack_classes, &wanted).map_err(|wrong| match wrong {
            Wrong::Unreadable(path, error) => format!("{path} {error}"),
            Wrong::Found(path, what) => format!("{path} {what}"),
            Wrong::Others(others, count) => format!("{} {} of {count}", others[0].0, others[0].1),
        })
    }

    #[test]
    fn classes_and_their_images_are_sorted_and_other_files_passed_over() {
        let root = tempfile::tempdir().unwrap();
        for file in ["dog/b.PNG", "dog/more/a.jpeg", "cat/2.jpg", "cat/10.jpg", "cat/notes.txt", "cat/.hidden.png"] {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        fs::write(root.path().join("README.md"), "").unwrap();
        fs::create_dir(root.path().join(".git")).unwrap();
        let List { classes, images } = list(root.path()).unwrap();
        assert_eq!(classes, ["cat", "dog"]);
        let images: Vec<_> = images.iter().map(|image| (image.class, &*image.path)).collect();
        assert_eq!(images, [(0, "cat/10.jpg"), (0, "cat/2.jpg"), (1, "dog/b.PNG"), (1, "dog/more/a.jpeg")]);
    }

    #[test]
    fn images_without_classes_lie_in_the_folder_itself() {
        let root = tempfile::tempdir().unwrap();
        for file in ["b.PNG", "a.jpeg", "notes.txt", ".hidden.png"] {
            fs::write(root.path().join(file), "").unwrap();
        }
        let List { classes, images } = list_of(root.path(), true).unwrap();
        let names: Vec<_> = images.iter().map(|image| &*image.path).collect();
        assert_eq!((classes.len(), &names[..]), (0, &["a.jpeg", "b.PNG"][..]));
        // A folder is a class all the same.
        fs::create_dir(root.path().join("cat")).unwrap();
        fs::write(root.path().join("cat/1.png"), "").unwrap();
        assert_eq!(list_of(root.path(), true).unwrap(), list(root.path()).unwrap());
        fs::remove_dir_all(root.path().join("cat")).unwrap();
        fs::write(root.path().join("c.gif"), "").unwrap();
        assert!(list_of(root.path(), true).unwrap_err().starts_with("c.gif is a .gif file"));
        let empty = tempfile::tempdir().unwrap();
        assert!(list_of(empty.path(), true).unwrap_err().contains("holds no folder of images"));
    }

    #[test]
    fn what_is_no_set_of_images_is_told_with_its_place() {
        let told = |make: &dyn Fn(&std::path::Path)| {
            let root = tempfile::tempdir().unwrap();
            make(root.path());
            list(root.path()).unwrap_err()
        };
        let put = |root: &std::path::Path, file: &str| {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        };
        assert!(told(&|_| {}).contains("holds no folder of images"));
        assert!(told(&|root| put(root, "a.png")).contains("holds images, and no folder of them"));
        assert!(told(&|root| put(root, "cat/a.txt")).starts_with("cat holds no image"));
        assert!(told(&|root| put(root, "cat/a.webp")).starts_with("cat/a.webp is a .webp file"));
        let many = told(&|root| (0..12).for_each(|n| put(root, &format!("cat/{n:02}.gif"))));
        assert!(many.starts_with("cat/00.gif is a .gif file") && many.ends_with(" of 12"), "{many}");
        let sets = told(&|root| ["train/cat/a.png", "val/cat/a.png"].iter().for_each(|file| put(root, file)));
        assert!(sets.contains("holds the folders train, val, which are sets and no classes"), "{sets}");
        let linked = told(&|root| {
            put(root, "cat/a.png");
            symlink("a.png", root.join("cat/b.png")).unwrap();
        });
        assert!(linked.starts_with("cat/b.png is a link"), "{linked}");
        let linked = told(&|root| {
            put(root, "cat/a.png");
            symlink("cat", root.join("dog")).unwrap();
        });
        assert!(linked.starts_with("dog is a link"), "{linked}");
        let unnamed = told(&|root| {
            put(root, "cat/a.png");
            fs::write(root.join("cat").join(OsStr::from_bytes(b"caf\xe9.jpg")), "").unwrap();
        });
        assert!(unnamed.starts_with("cat it holds \"caf\\xe9.jpg\", whose name is not UTF-8"), "{unnamed}");
        let deep = told(&|root| put(root, "1/2/3/4/5/6/7/8/9/a.png"));
        assert!(deep.contains("lies deeper than 8 folders"), "{deep}");
    }
}
