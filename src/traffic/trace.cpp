#include "traffic/trace.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <fstream>
#include <numeric>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace hearth::traffic {

namespace {

constexpr std::size_t kLineBytesMax = 1U << 20;

using Rows = std::vector<TraceRow>;

Error bad_line(std::size_t line, std::string_view why) {
    return {Code::invalid_argument, fmt::format("trace line {}: {}", line, why), "trace"};
}

template <typename T>
std::optional<T> number(std::string_view text) {
    T value{};
    auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return value;
}

// "2023-11-16 18:15:46.6805900" as seconds since the epoch.
std::optional<double> timestamp_s(std::string_view text) {
    if (text.size() < 19 || text[4] != '-' || text[7] != '-' || text[10] != ' ' || text[13] != ':' || text[16] != ':') {
        return std::nullopt;
    }
    auto const year = number<int>(text.substr(0, 4));
    auto const month = number<unsigned>(text.substr(5, 2));
    auto const day = number<unsigned>(text.substr(8, 2));
    auto const hour = number<unsigned>(text.substr(11, 2));
    auto const minute = number<unsigned>(text.substr(14, 2));
    auto const second = number<double>(text.substr(17));
    if (!year || !month || !day || !hour || !minute || !second) return std::nullopt;
    std::chrono::year_month_day const date{std::chrono::year(*year), std::chrono::month(*month),
                                           std::chrono::day(*day)};
    if (!date.ok() || *hour > 23 || *minute > 59 || !(*second >= 0 && *second < 61)) return std::nullopt;
    auto const days = std::chrono::sys_days(date).time_since_epoch().count();
    return static_cast<double>(days) * 86400.0 + *hour * 3600.0 + *minute * 60.0 + *second;
}

std::optional<std::uint32_t> token_count(std::string_view text) {
    auto const value = number<std::uint32_t>(text);
    return value && *value <= kTraceTokensMax ? value : std::nullopt;
}

Result<TraceRow> azure_row(std::string_view line, std::size_t at) {
    std::array<std::string_view, 3> fields;
    for (auto& field : fields) {
        auto const comma = line.find(',');
        field = line.substr(0, comma);
        line.remove_prefix(comma == std::string_view::npos ? line.size() : comma + 1);
    }
    auto const when = timestamp_s(fields[0]);
    auto const prompt = token_count(fields[1]);
    auto const output = token_count(fields[2]);
    if (!when)
        return bad_line(at, fmt::format("\"{}\" is no time like 2023-11-16 18:15:46.68", fields[0].substr(0, 40)));
    if (!prompt || !output) {
        return bad_line(at, fmt::format("token counts must be whole numbers up to {}, got \"{}\" and \"{}\"",
                                        kTraceTokensMax, fields[1].substr(0, 40), fields[2].substr(0, 40)));
    }
    return TraceRow{*when, *prompt, *output, {}};
}

Result<TraceRow> mooncake_row(std::string_view line, std::size_t at) {
    auto const row = nlohmann::json::parse(line, nullptr, false);
    if (!row.is_object()) return bad_line(at, "not a JSON object");
    auto const count = [&](char const* key) -> std::optional<std::uint32_t> {
        auto const it = row.find(key);
        if (it == row.end() || !it->is_number_unsigned() || it->get<std::uint64_t>() > kTraceTokensMax)
            return std::nullopt;
        return it->get<std::uint32_t>();
    };
    auto const prompt = count("input_length");
    auto const output = count("output_length");
    if (!prompt || !output) {
        return bad_line(at,
                        fmt::format("input_length and output_length must be whole numbers up to {}", kTraceTokensMax));
    }
    auto const when = row.find("timestamp");
    if (when == row.end() || !when->is_number() || when->get<double>() < 0)
        return bad_line(at, "timestamp must be milliseconds >= 0");
    TraceRow result{when->get<double>() / 1000.0, *prompt, *output, {}};
    auto const blocks = row.find("hash_ids");
    if (blocks == row.end()) return result;
    if (!blocks->is_array()) return bad_line(at, "hash_ids must be an array");
    for (auto const& id : *blocks) {
        if (!id.is_number_unsigned()) return bad_line(at, "hash_ids must be whole numbers");
        result.blocks.push_back(id.get<std::uint64_t>());
    }
    auto const needed = (*prompt + kMooncakeBlockTokens - 1) / kMooncakeBlockTokens;
    if (result.blocks.size() != needed) {
        return bad_line(at, fmt::format("{} prompt tokens are {} blocks of {}, but there are {} hash_ids", *prompt,
                                        needed, kMooncakeBlockTokens, result.blocks.size()));
    }
    return result;
}

// One line without its end; nothing at the end of the file. `too_long` when it
// passes the limit.
enum class LineRead { line, end, too_long };
LineRead read_line(std::istream& in, std::string& line) {
    line.clear();
    for (int c = in.get(); c != std::istream::traits_type::eof(); c = in.get()) {
        if (c == '\n') {
            if (!line.empty() && line.back() == '\r') line.pop_back();
            return LineRead::line;
        }
        if (line.size() == kLineBytesMax) return LineRead::too_long;
        line.push_back(static_cast<char>(c));
    }
    return line.empty() ? LineRead::end : LineRead::line;
}

template <typename ParseRow>
Status read_rows(std::istream& in, std::uint32_t limit, std::size_t at, ParseRow parse, Rows& rows) {
    std::string line;
    while (rows.size() < limit) {
        ++at;
        auto const got = read_line(in, line);
        if (got == LineRead::end) break;
        if (got == LineRead::too_long) return bad_line(at, fmt::format("longer than {} bytes", kLineBytesMax));
        if (line.empty()) continue;
        HEARTH_TRY(auto row, parse(std::string_view(line), at));
        rows.push_back(std::move(row));
    }
    return ok();
}

Result<Rows> in_order(Rows rows) {
    if (rows.empty()) return Error{Code::invalid_argument, "the trace has no rows", "trace"};
    std::vector<std::size_t> order(rows.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    // Rows of one moment keep the file's order.
    std::sort(order.begin(), order.end(),
              [&](auto a, auto b) { return std::pair(rows[a].at_s, a) < std::pair(rows[b].at_s, b); });
    auto const start = rows[order.front()].at_s;
    Rows sorted;
    sorted.reserve(rows.size());
    for (auto i : order) {
        rows[i].at_s -= start;
        sorted.push_back(std::move(rows[i]));
    }
    return sorted;
}

}  // namespace

Result<Rows> read_azure(std::istream& in, std::uint32_t limit) {
    std::string header;
    if (read_line(in, header) != LineRead::line || !header.ends_with("TIMESTAMP,ContextTokens,GeneratedTokens")) {
        return bad_line(1, "the header must be TIMESTAMP,ContextTokens,GeneratedTokens");
    }
    Rows rows;
    HEARTH_CHECK(read_rows(in, std::min(limit, kTraceRowsMax), 1, azure_row, rows));
    return in_order(std::move(rows));
}

Result<Rows> read_mooncake(std::istream& in, std::uint32_t limit) {
    Rows rows;
    HEARTH_CHECK(read_rows(in, std::min(limit, kTraceRowsMax), 0, mooncake_row, rows));
    return in_order(std::move(rows));
}

Result<Rows> read_trace(std::string const& path, std::string_view format, std::uint32_t limit) {
    auto kind = std::string(format);
    if (kind.empty() && path.ends_with(".csv")) kind = "azure";
    if (kind.empty() && path.ends_with(".jsonl")) kind = "mooncake";
    if (kind != "azure" && kind != "mooncake") {
        return Error{Code::invalid_argument,
                     fmt::format("trace format \"{}\" of {} is unknown; use azure or mooncake", kind, path),
                     "trace-format"};
    }
    std::ifstream in(path, std::ios::binary);
    if (!in) return Error{Code::invalid_argument, fmt::format("cannot open the trace {}", path), "trace"};
    return kind == "azure" ? read_azure(in, limit) : read_mooncake(in, limit);
}

}  // namespace hearth::traffic
