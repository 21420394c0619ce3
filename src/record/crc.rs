//! The masked CRC of TFRecord.

/// CRC-32C of the bytes, rotated right by 15 bits and moved by a constant: a CRC over data that
/// holds CRCs is weak, and the mask undoes that (TensorFlow's `core/lib/hash/crc32c.h`).
pub fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::masked_crc;

    #[test]
    fn the_values_of_rustboards_tests_come_out() {
        assert_eq!(masked_crc(b"\x1a\x11CRC test, one two"), 0x5794_d08a);
        assert_eq!(masked_crc(b"\x18\0\0\0\0\0\0\0"), 0x224b_7fa3);
        assert_eq!(masked_crc(b"\x09\0\0\x80\x38\x99\xd6\xd7\x41\x1a\x0dbrain.Event:2"), 0xab36_4b12);
    }
}
