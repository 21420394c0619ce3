//! An upload that is under way: begun or gone on with, written to, and given its name at the end.

use std::fs::File;
use std::io::{self, Seek};
use std::os::unix::fs::FileExt;

use super::name::Name;
use super::{Claim, Owner, Partial, Stored, UploadError, Uploads, Whole, locked, partial, partial_folder, tree};
use crate::fault;
use crate::gate::Wanted;
use crate::sha256::Sha256;

/// After so many bytes the disk is waited for: at the end it has little left to do, and no step
/// keeps its thread for long.
const SYNC_BYTES: u64 = 64 << 20;

/// A file that a client is about to send.
#[derive(Debug, Clone)]
pub struct Begin {
    /// Its name.
    pub name: Name,
    /// All of its bytes.
    pub size_bytes: u64,
    /// Its checksum.
    pub sha256: String,
    /// The first byte that comes.
    pub offset_bytes: u64,
    /// A file of that name is replaced.
    pub overwrite: bool,
}

/// An upload that is under way. Dropped before its end it stays as a partial upload.
#[derive(Debug)]
pub struct Upload {
    begin: Begin,
    file: File,
    received: u64,
    claim: Claim,
}

impl Uploads {
    /// Begins an upload, or goes on with one, where there is room for it. The whole file counts for
    /// the quota from here on.
    pub fn begin(&self, owner: &Owner, begin: Begin, wanted: &Wanted) -> Result<Upload, UploadError> {
        let Begin { name, size_bytes, sha256, offset_bytes, overwrite } = &begin;
        let claim = self.shared.claim(owner, name)?;
        // Each of two that looked at once would find room.
        let _changes = locked(&self.shared.changes);
        let place = self.shared.folder()?;
        let parts = place.make_folder(partial_folder(owner))?;
        self.shared.remove_expired_of(owner, &parts)?;
        let folder = place.make_folder(owner.to_string())?;
        locked(&self.shared.owners).insert(owner.clone());
        if tree::open(&folder, name)?.is_some() && !overwrite {
            return Err(UploadError::Exists(name.clone()));
        }
        let mut listing = self.list(owner, wanted)?;
        let there = listing.files.get_mut(name).and_then(|stored| stored.partial.take());
        self.judge_room(&begin, there.as_ref(), listing.files)?;
        let same = there.filter(|there| there.size_bytes == *size_bytes && there.sha256 == *sha256);
        let received = same.as_ref().map_or(0, |there| there.received_bytes);
        if *offset_bytes > received {
            return Err(UploadError::BehindTheEnd { name: name.clone(), offset: *offset_bytes, received });
        }
        let unwritten = size_bytes.saturating_sub(*offset_bytes);
        let left = place.free_bytes()?.saturating_sub(claim.unwritten_of_others());
        // The bytes that are there are on the disk already.
        if size_bytes.saturating_sub(received) > left {
            return Err(UploadError::NoRoom { needed: unwritten, left });
        }
        let file = match same {
            Some(_) => partial::cut(&parts, name, *offset_bytes)?,
            None => partial::create(&parts, name, *size_bytes, sha256)?,
        };
        claim.set_unwritten(unwritten);
        Ok(Upload { received: *offset_bytes, file, claim, begin })
    }

    /// Whether an owner may have the file beside `others`. `there` is the partial upload of its
    /// name.
    fn judge_room(
        &self,
        begin: &Begin,
        there: Option<&Partial>,
        others: std::collections::BTreeMap<Name, Stored>,
    ) -> Result<(), UploadError> {
        let Begin { name, size_bytes, sha256, offset_bytes, .. } = begin;
        if let Some(there) = there
            && *offset_bytes > 0
            && (there.size_bytes != *size_bytes || there.sha256 != *sha256)
        {
            let (size_bytes, sha256) = (there.size_bytes, there.sha256.clone());
            return Err(UploadError::OtherFile { name: name.clone(), size_bytes, sha256 });
        }
        let limits = self.shared.limits;
        let used = others.values().map(Stored::used_bytes).fold(0, u64::saturating_add);
        if used.saturating_add(*size_bytes) > limits.quota_bytes {
            return Err(UploadError::Quota { needed: *size_bytes, used, quota: limits.quota_bytes });
        }
        let is_new = others.get(name).is_none_or(|own| own.whole.is_none());
        let count = others.iter().filter(|(other, _)| *other != name).count() + usize::from(!is_new);
        if is_new && count >= limits.max_files {
            return Err(UploadError::TooManyFiles(count));
        }
        Ok(())
    }
}

impl Upload {
    /// Adds bytes.
    pub fn write(&mut self, data: &[u8]) -> Result<(), UploadError> {
        let after = self.received.saturating_add(data.len() as u64);
        if after > self.begin.size_bytes {
            return Err(UploadError::TooLong(self.begin.size_bytes));
        }
        self.file.write_all_at(data, self.received)?;
        fault::point("upload-piece");
        if self.received / SYNC_BYTES != after / SYNC_BYTES {
            self.file.sync_data()?;
        }
        self.received = after;
        self.claim.set_unwritten(self.begin.size_bytes - after);
        Ok(())
    }

    /// Whether all bytes are there.
    pub fn is_whole(&self) -> bool {
        self.received == self.begin.size_bytes
    }

    /// Gives the file its name, once it is on the disk and has its checksum. One that has another
    /// checksum is removed. Asks at each block whether the caller is still there; a partial upload
    /// stays where it is not.
    pub fn finish(mut self, wanted: &Wanted) -> Result<Stored, UploadError> {
        let Begin { name, sha256, .. } = &self.begin;
        let (shared, owner) = (&self.claim.shared, &self.claim.key.0);
        self.file.sync_all()?;
        self.file.rewind()?;
        let found = Sha256::of_reader(&mut wanted.reads(&self.file))?;
        fault::point("upload-checked");
        let _changes = locked(&shared.changes);
        let place = shared.folder()?;
        let parts = place.folder(partial_folder(owner))?;
        if found != *sha256 {
            partial::remove(&parts, name)?;
            return Err(UploadError::WrongChecksum { name: name.clone(), found, told: sha256.clone() });
        }
        let folder = place.make_folder(owner.to_string())?;
        let parent = name.path().parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent {
            folder.make_folder(parent).map_err(|error| tree::not_a_file(name, error))?;
        }
        let from = format!("{}/{}", partial_folder(owner), partial::bytes_name(name));
        place.rename(from, format!("{owner}/{name}")).map_err(|error| tree::not_a_file(name, error))?;
        fault::point("upload-renamed");
        tree::sync_way(&folder, name)?;
        place.sync()?;
        // The note is left, which alone is no upload.
        partial::remove(&parts, name)?;
        tracing::info!(%owner, %name, size_bytes = self.received, "a file is uploaded");
        Ok(Stored { whole: Some(Whole::of(&self.file, Some(found))?), partial: None })
    }

    /// The partial upload as it stands.
    pub fn pause(self) -> Result<Stored, UploadError> {
        let parts = self.claim.shared.folder()?.folder(partial_folder(&self.claim.key.0))?;
        let partial = partial::read(&parts, &self.begin.name)?;
        // Nobody else removes it while this is here.
        let partial = partial.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(Stored { whole: None, partial: Some(partial) })
    }
}
