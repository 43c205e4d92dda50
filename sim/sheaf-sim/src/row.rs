//! Things that are numbered as they come, and most of which don't last: a row of them, from the oldest that is left.

use std::collections::VecDeque;

/// By number. Numbers only grow; one that is gone doesn't come back.
#[derive(Clone, Debug)]
pub struct Row<T> {
    /// The number of the first place.
    first: u64,
    places: VecDeque<Option<T>>,
}

impl<T> Default for Row<T> {
    fn default() -> Self {
        Self { first: 0, places: VecDeque::new() }
    }
}

impl<T> Row<T> {
    fn place(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.first)?).ok()
    }

    /// Adds one whose number is above those of all others.
    pub fn add(&mut self, number: u64, thing: T) {
        if self.places.is_empty() {
            self.first = number;
        }
        let place = self.place(number).filter(|place| *place >= self.places.len());
        debug_assert!(place.is_some(), "{number} was in the row already");
        if let Some(place) = place {
            self.places.resize_with(place, || None);
            self.places.push_back(Some(thing));
        }
    }

    pub fn get(&self, number: u64) -> Option<&T> {
        self.places.get(self.place(number)?)?.as_ref()
    }

    pub fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let place = self.place(number)?;
        self.places.get_mut(place)?.as_mut()
    }

    pub fn remove(&mut self, number: u64) -> Option<T> {
        let place = self.place(number)?;
        let removed = self.places.get_mut(place)?.take();
        while let Some(None) = self.places.front() {
            self.places.pop_front();
            self.first += 1;
        }
        removed
    }

    /// In the order of numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        let numbers = self.first..;
        numbers.zip(&self.places).filter_map(|(number, thing)| Some((number, thing.as_ref()?)))
    }

    pub fn into_values(self) -> impl Iterator<Item = T> {
        self.places.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_what_an_ordered_map_is() {
        let mut row = Row::default();
        let mut map = std::collections::BTreeMap::new();
        let mut dice = crate::dice::Dice::new(3, crate::dice::Purpose::Knobs, 0);
        let mut next = 0;
        for _ in 0..5_000 {
            match dice.below(5) {
                0 | 1 => {
                    next += dice.between(1, 3);
                    row.add(next, next);
                    map.insert(next, next);
                }
                2 if dice.chance(0.02) => {
                    row = Row::default();
                    map.clear();
                }
                _ => {
                    let number = next.saturating_sub(dice.below(12));
                    assert_eq!(row.get(number), map.get(&number));
                    assert_eq!(row.get_mut(number), map.get_mut(&number));
                    assert_eq!(row.remove(number), map.remove(&number));
                }
            }
            assert!(row.iter().eq(map.iter().map(|(number, thing)| (*number, thing))));
        }
        assert!(row.into_values().eq(map.into_values()));
    }
}
