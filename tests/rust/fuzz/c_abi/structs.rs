//! Structs of the ABI as hosts of other versions, or careless ones, pass them.

use crate::generator::Choices;

/// More bytes than any `struct_size` that the library believes.
const LARGEST: usize = 4096;

/// One or more structs, with room for any `struct_size` that is believed.
pub struct Structs<T> {
    words: Vec<u64>,
    pub count: usize,
    structs: std::marker::PhantomData<T>,
}

impl<T: Copy> Structs<T> {
    /// These structs, whose first field is the `struct_size`.
    pub fn new(choices: &mut Choices<'_>, values: &[T]) -> Self {
        let size = size_of::<T>();
        let stated = match choices.below(24) {
            16 => 0,
            17 => size - 8,
            18 | 19 => size + 8,
            20 => LARGEST,
            21 => LARGEST + 8,
            22 => size + 1,
            23 => usize::MAX,
            _ => size,
        };
        let step = stated.clamp(size, LARGEST).next_multiple_of(8);
        let mut words = vec![0; (step * values.len() + LARGEST) / 8 + 1];
        for (index, value) in values.iter().enumerate() {
            // SAFETY: there is room for all of them, and every struct of the ABI consists of aligned words.
            unsafe { words.as_mut_ptr().byte_add(index * step).cast::<T>().write(*value) };
            words[index * step / 8] = stated as u64;
        }
        if stated != size && choices.once_in(4) {
            // A field that this version does not know.
            words[size / 8] |= 1;
        }
        Structs { words, count: values.len(), structs: std::marker::PhantomData }
    }

    /// Where they are: mostly.
    pub fn pointer(&mut self, choices: &mut Choices<'_>) -> *mut T {
        let pointer = self.words.as_mut_ptr().cast::<T>();
        match choices.below(48) {
            47 => std::ptr::null_mut(),
            46 => pointer.wrapping_byte_add(1),
            _ => pointer,
        }
    }

    /// The first one, as the library left it.
    pub fn first(&self) -> T {
        // SAFETY: it was written by `new`, and every field of the ABI's structs may have any bits.
        unsafe { self.words.as_ptr().cast::<T>().read() }
    }
}
