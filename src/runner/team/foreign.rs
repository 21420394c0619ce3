//! The OpenMP runtime that libtorch comes with: its functions, and whether a library needs more of
//! a team than there is here.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use nix::libc;

/// Functions of the interface that do not depend on a team. They stay GNU's.
const INDEPENDENT: [&str; 24] = [
    "GOMP_atomic_end",
    "GOMP_atomic_start",
    "GOMP_critical_end",
    "GOMP_critical_name_end",
    "GOMP_critical_name_start",
    "GOMP_critical_start",
    "omp_destroy_lock",
    "omp_destroy_nest_lock",
    "omp_get_dynamic",
    "omp_get_max_threads",
    "omp_get_num_procs",
    "omp_get_thread_limit",
    "omp_get_wtick",
    "omp_get_wtime",
    "omp_init_lock",
    "omp_init_nest_lock",
    "omp_set_dynamic",
    "omp_set_lock",
    "omp_set_nest_lock",
    "omp_set_num_threads",
    "omp_test_lock",
    "omp_test_nest_lock",
    "omp_unset_lock",
    "omp_unset_nest_lock",
];

/// A function of another runtime, which the program's own symbols hide.
#[derive(Debug)]
pub(super) struct Hidden {
    name: &'static CStr,
    address: AtomicPtr<c_void>,
}

impl Hidden {
    /// The function of that name.
    pub(super) const fn new(name: &'static CStr) -> Self {
        Self { name, address: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Its address. Where no library has it, nothing can call it but us, and the process ends.
    pub(super) fn address(&self) -> *mut c_void {
        let known = self.address.load(Ordering::Relaxed);
        if !known.is_null() {
            return known;
        }
        // SAFETY: the name ends with a zero.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        if found.is_null() {
            eprintln!("torchd-runner: no library has {}", self.name.to_string_lossy());
            std::process::abort();
        }
        self.address.store(found, Ordering::Relaxed);
        found
    }
}

/// The threads that a region gets which asks for no number, as `at::set_num_threads` set it.
pub(super) fn default_size() -> u32 {
    static FUNCTION: Hidden = Hidden::new(c"omp_get_max_threads");
    // SAFETY: `int omp_get_max_threads(void)`.
    let get = unsafe { std::mem::transmute::<*mut c_void, extern "C" fn() -> c_int>(FUNCTION.address()) };
    u32::try_from(get()).unwrap_or(1)
}

/// The first function of an OpenMP runtime that a loaded library calls, and that depends on a team
/// and is not among those that are served.
pub(super) fn unserved(served: &[&str]) -> Option<String> {
    struct Search<'a> {
        served: &'a [&'a str],
        found: Option<String>,
    }
    extern "C" fn look(about: *mut libc::dl_phdr_info, _: libc::size_t, search: *mut c_void) -> c_int {
        // SAFETY: the loader hands over an object that is loaded, and what `unserved` gave it.
        let (about, search) = unsafe { (&*about, &mut *search.cast::<Search<'_>>()) };
        for name in undefined(about) {
            let name = name.to_string_lossy();
            if depends_on_team(&name, search.served) {
                search.found = Some(name.into_owned());
                return 1;
            }
        }
        0
    }
    let mut search = Search { served, found: None };
    // SAFETY: `look` is called with `search` before this returns.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut search).cast()) };
    search.found
}

/// Whether a function is one of OpenMP that neither is served nor works without a team.
fn depends_on_team(name: &str, served: &[&str]) -> bool {
    let is_openmp = ["GOMP_", "omp_", "__kmpc_"].iter().any(|prefix| name.starts_with(prefix));
    is_openmp && !served.contains(&name) && !INDEPENDENT.contains(&name)
}

/// The names that an object takes from others. The linker sorts them to the beginning of the table
/// of symbols, before those that the hash table finds. (GNU hash table)
fn undefined(about: &libc::dl_phdr_info) -> impl Iterator<Item = &CStr> {
    let (mut symbols, mut names, mut hashes) = (0, 0, 0);
    let base = about.dlpi_addr as usize;
    // SAFETY: the loader describes an object that is loaded: its headers, and a list that DT_NULL
    // ends.
    unsafe {
        let headers = std::slice::from_raw_parts(about.dlpi_phdr, about.dlpi_phnum.into());
        if let Some(header) = headers.iter().find(|header| header.p_type == libc::PT_DYNAMIC) {
            let mut entry = (base + header.p_vaddr as usize) as *const Dynamic;
            while (*entry).tag != DT_NULL {
                // The loader of some architectures leaves addresses as the file has them.
                let address = if (*entry).value < base { base + (*entry).value } else { (*entry).value };
                match (*entry).tag {
                    DT_SYMTAB => symbols = address,
                    DT_STRTAB => names = address,
                    DT_GNU_HASH => hashes = address,
                    _ => {}
                }
                entry = entry.add(1);
            }
        }
    }
    let is_whole = symbols != 0 && names != 0 && hashes != 0;
    // SAFETY: the second word of the hash table is the number of symbols that it leaves out.
    let count = if is_whole { unsafe { *(hashes as *const u32).add(1) } } else { 0 };
    (1..count as usize).filter_map(move |place| {
        // SAFETY: there are so many symbols, whose names are offsets into the table of names.
        unsafe {
            let symbol = &*(symbols as *const libc::Elf64_Sym).add(place);
            (symbol.st_shndx == 0).then(|| CStr::from_ptr((names as *const libc::c_char).add(symbol.st_name as usize)))
        }
    })
}

/// An entry of the dynamic section. (elf(5), Elf64_Dyn)
#[repr(C)]
struct Dynamic {
    tag: i64,
    value: usize,
}

const DT_NULL: i64 = 0;
const DT_STRTAB: i64 = 5;
const DT_SYMTAB: i64 = 6;
const DT_GNU_HASH: i64 = 0x6fff_fef5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtorch_calls_functions_that_depend_on_a_team() {
        // Held against an empty list there is one, and libtorch begins every region with it.
        assert!(unserved(&[]).is_some());
        assert_eq!(unserved(super::super::gomp::SERVED), None);
    }

    #[test]
    fn a_lock_needs_no_team_and_a_task_does() {
        let served = ["GOMP_parallel"];
        for (name, depends) in [
            ("GOMP_parallel", false),
            ("omp_set_lock", false),
            ("GOMP_critical_start", false),
            ("printf", false),
            ("GOMP_task", true),
            ("omp_get_ancestor_thread_num", true),
            ("__kmpc_fork_call", true),
        ] {
            assert_eq!(depends_on_team(name, &served), depends, "{name}");
        }
    }
}
