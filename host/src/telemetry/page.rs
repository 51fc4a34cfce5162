//! Families of series in the exposition format, through prometheus-client's encoder.

use std::{collections::HashMap, fmt};

use prometheus_client::{
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::{MetricType, exemplar::Exemplar},
    registry::Unit,
};

use super::histogram::HistogramSnapshot;

pub(super) type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

/// Writes one family of series after the other.
pub(super) struct Page<'e, 'w>(pub &'e mut DescriptorEncoder<'w>);

impl Page<'_, '_> {
    /// `_total` is added to the name.
    pub fn counter<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels<'a, N>, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in rows {
            let mut metric = family.encode_family(&labels)?;
            metric.encode_counter(&value, None::<&Exemplar<NoLabelSet, f64>>)?;
        }
        Ok(())
    }

    pub fn float_counter(&mut self, name: &str, help: &str, unit: Unit, value: f64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, Some(&unit), MetricType::Counter)?;
        metric.encode_counter(&value, None::<&Exemplar<NoLabelSet, f64>>)
    }

    pub fn gauge<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels<'a, N>, f64)>,
    ) -> fmt::Result {
        self.gauges(name, help, None, rows)
    }

    /// The unit is added to the name.
    pub fn gauge_with_unit<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        unit: Unit,
        rows: impl IntoIterator<Item = (Labels<'a, N>, f64)>,
    ) -> fmt::Result {
        self.gauges(name, help, Some(unit), rows)
    }

    fn gauges<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        rows: impl IntoIterator<Item = (Labels<'a, N>, f64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        for (labels, value) in rows {
            if N == 0 {
                family.encode_gauge(&value)?;
            } else {
                family.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    /// `_seconds` is added to the name; `scale` is the exposed powers of two, and how many of them make a second.
    pub fn histogram<'a, 'h, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        (powers, per_second): (&[u32], f64),
        rows: impl IntoIterator<Item = (Labels<'a, N>, &'h HistogramSnapshot)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (labels, histogram) in rows {
            let buckets: Vec<_> = histogram
                .by_power_of_two(powers)
                .into_iter()
                .map(|(bound, count)| (bound.map_or(f64::INFINITY, |bound| bound as f64 / per_second), count))
                .collect();
            let (sum, count) = (histogram.sum() as f64 / per_second, histogram.count());
            let exemplars = None::<&HashMap<usize, Exemplar<NoLabelSet, f64>>>;
            if N == 0 {
                family.encode_histogram(sum, count, &buckets, exemplars)?;
            } else {
                family.encode_family(&labels)?.encode_histogram(sum, count, &buckets, exemplars)?;
            }
        }
        Ok(())
    }
}
