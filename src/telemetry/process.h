// The process_* metrics that Prometheus client libraries export, read from
// /proc at each render: CPU seconds, resident and virtual memory, descriptors,
// threads, start time.
#pragma once

#include "telemetry/metrics.h"

namespace hearth::telemetry {

// Call once per registry.
void add_process_metrics(Registry& registry);

}  // namespace hearth::telemetry
