#include "api/ollama/times.h"

#include <chrono>

#include <fmt/format.h>

namespace hearth::api::ollama {
std::string rfc3339(std::int64_t unix_ns) {
    using namespace std::chrono;
    sys_time<nanoseconds> const at{nanoseconds(unix_ns)};
    auto const day = floor<days>(at);
    year_month_day const date(day);
    hh_mm_ss const time(floor<microseconds>(at - day));
    return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z", static_cast<int>(date.year()),
                       static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()), time.hours().count(),
                       time.minutes().count(), time.seconds().count(), time.subseconds().count());
}

}  // namespace hearth::api::ollama
