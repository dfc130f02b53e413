//! AdamW over the slots of a bank.

use super::pool;
use super::vector::Real;
use crate::device::{Adamw, Address};
use crate::{Result, fail};

/// Elements that are updated at once, and below which threads are not worth it.
const BLOCK: usize = 1 << 14;

/// One step, in the order of operations of `torch.optim.AdamW`.
pub fn step(update: &Adamw) -> Result<()> {
    check(update)?;
    if update.double { run::<f64>(update) } else { run::<f32>(update) }
}

fn check(update: &Adamw) -> Result<()> {
    let bytes = if update.double { 8 } else { 4 };
    let elements = update.capacity.checked_mul(update.size);
    if elements.and_then(|elements| elements.checked_mul(bytes)).is_none() {
        fail!(InvalidArgument, "a bank of {} slots of {} is too large", update.capacity, update.size);
    }
    let bank = if elements == Some(0) { 0 } else { 1 };
    let arrays: [(&str, Address, usize, usize); 7] = [
        ("parameters", update.parameters, bytes, bank),
        ("gradient", update.gradient, bytes, bank),
        ("first moment", update.first_moment, bytes, bank),
        ("second moment", update.second_moment, bytes, bank),
        ("steps", update.steps, 4, update.capacity),
        ("mode", update.mode, 1, update.capacity),
        ("non-finite", update.non_finite, 1, update.capacity),
    ];
    for (name, address, alignment, elements) in arrays {
        if (elements > 0 && address.is_null()) || !address.0.is_multiple_of(alignment as u64) {
            fail!(InvalidArgument, "the {name} array is null or not aligned to {alignment} bytes");
        }
    }
    Ok(())
}

/// Some elements of a slot that is updated.
struct Part<'a, T> {
    slot: usize,
    parameters: &'a mut [T],
    gradient: &'a [T],
    first_moment: &'a mut [T],
    second_moment: &'a mut [T],
    finite: bool,
}

fn run<T: Real>(update: &Adamw) -> Result<()> {
    let Adamw { capacity, size, .. } = *update;
    // SAFETY: the caller answers for arrays of these sizes, apart from each other; `check` found them aligned and none
    // of them null where it has elements.
    let (mode, steps, marks, parameters, gradient, first, second) = unsafe {
        (
            slice::<u8>(update.mode, capacity),
            slice_mut::<u32>(update.steps, capacity),
            slice_mut::<u8>(update.non_finite, capacity),
            slice_mut::<T>(update.parameters, capacity * size),
            slice::<T>(update.gradient, capacity * size),
            slice_mut::<T>(update.first_moment, capacity * size),
            slice_mut::<T>(update.second_moment, capacity * size),
        )
    };
    if size == 0 {
        return Ok(());
    }
    let slots = parameters.chunks_exact_mut(size).zip(gradient.chunks_exact(size));
    let slots = slots.zip(first.chunks_exact_mut(size).zip(second.chunks_exact_mut(size))).enumerate();
    let mut parts = Vec::new();
    for (slot, ((parameters, gradient), (first, second))) in slots.filter(|(slot, _)| mode[*slot] == update.updated) {
        let blocks = parameters.chunks_mut(BLOCK).zip(gradient.chunks(BLOCK));
        for ((parameters, gradient), (first_moment, second_moment)) in
            blocks.zip(first.chunks_mut(BLOCK).zip(second.chunks_mut(BLOCK)))
        {
            parts.push(Part { slot, parameters, gradient, first_moment, second_moment, finite: true });
        }
    }
    let parallel = parts.iter().map(|part| part.gradient.len()).sum::<usize>() > BLOCK;
    pool::for_each(parallel, &mut parts, |_, part| {
        part.finite = part.gradient.iter().all(|number| number.is_finite());
    })?;
    let mut skipped = vec![false; capacity];
    for part in &parts {
        skipped[part.slot] |= !part.finite;
    }
    let mut last = None;
    for part in parts.iter().filter(|part| last.replace(part.slot) != Some(part.slot)) {
        if skipped[part.slot] {
            marks[part.slot] = 1;
        } else {
            steps[part.slot] = steps[part.slot].saturating_add(1);
        }
    }
    let steps = &*steps;
    pool::for_each(parallel, &mut parts, |_, part| {
        if !skipped[part.slot] {
            advance(update, steps[part.slot], part);
        }
    })
}

/// Updates some elements, at this step of their slot.
fn advance<T: Real>(update: &Adamw, step: u32, part: &mut Part<'_, T>) {
    let correction1 = 1.0 - update.beta1.powf(f64::from(step));
    let correction2 = 1.0 - update.beta2.powf(f64::from(step));
    let number = T::from_f64;
    let decay = number(1.0 - update.learning_rate * update.weight_decay);
    let negative_step = number(-(update.learning_rate / correction1));
    let correction = number(correction2.sqrt());
    let (weight1, keep1) = (number(1.0 - update.beta1), number(update.beta1));
    let (weight2, beta2, epsilon) = (number(1.0 - update.beta2), number(update.beta2), number(update.epsilon));
    let near_start = 1.0 - update.beta1 < 0.5;
    let elements = part.parameters.iter_mut().zip(part.gradient);
    let moments = part.first_moment.iter_mut().zip(part.second_moment.iter_mut());
    for ((parameter, gradient), (first, second)) in elements.zip(moments) {
        let gradient = *gradient;
        let decayed = *parameter * decay;
        // torch's lerp starts from the nearer end.
        let way = gradient - *first;
        *first = if near_start { *first + weight1 * way } else { gradient - way * keep1 };
        *second = *second * beta2 + weight2 * gradient * gradient;
        let denominator = second.root() / correction + epsilon;
        *parameter = decayed + negative_step * *first / denominator;
    }
}

/// # Safety
/// There are so many elements, aligned, that nobody writes meanwhile.
unsafe fn slice<'a, T>(address: Address, elements: usize) -> &'a [T] {
    if elements == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(address.0 as *const T, elements) }
}

/// # Safety
/// There are so many elements, aligned, that nobody else reads or writes meanwhile.
unsafe fn slice_mut<'a, T>(address: Address, elements: usize) -> &'a mut [T] {
    if elements == 0 {
        return &mut [];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts_mut(address.0 as *mut T, elements) }
}
