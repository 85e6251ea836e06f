#include "telemetry/metrics.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <mutex>
#include <variant>

#include "base/assert.h"

namespace hearth::telemetry {
namespace {

bool is_name(std::string_view text, bool colon_allowed) {
    if (text.empty() || (text[0] >= '0' && text[0] <= '9')) return false;
    return std::ranges::all_of(text, [&](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
               (colon_allowed && c == ':');
    });
}

void append_number(double value, std::string& out) {
    if (std::isnan(value)) {
        out.append("NaN");
    } else if (std::isinf(value)) {
        out.append(value > 0 ? "+Inf" : "-Inf");
    } else {
        std::array<char, 32> buffer{};
        out.append(buffer.data(), std::to_chars(buffer.data(), buffer.data() + buffer.size(), value).ptr);
    }
}

// Help texts escape backslash and newline, label values the quote as well.
void append_escaped(std::string_view text, bool quote_too, std::string& out) {
    for (char const c : text) {
        if (c == '\n') {
            out.append("\\n");
            continue;
        }
        if (c == '\\' || (c == '"' && quote_too)) out.push_back('\\');
        out.push_back(c);
    }
}

// {a="x",b="y"} with `le` last where it is given; nothing without labels.
void append_labels(std::vector<std::string> const& names, Labels const& values, std::string_view le, std::string& out) {
    if (names.empty() && le.empty()) return;
    char separator = '{';
    for (std::size_t i = 0; i < names.size(); ++i) {
        out.push_back(separator);
        out.append(names[i]);
        out.append("=\"");
        append_escaped(values[i], true, out);
        out.push_back('"');
        separator = ',';
    }
    if (!le.empty()) {
        out.push_back(separator);
        out.append("le=\"");
        out.append(le);
        out.push_back('"');
    }
    out.push_back('}');
}

struct Series {
    std::string_view family;
    std::vector<std::string> const& names;
    Labels const& values;
};

void append_sample(Series const& series, std::string_view suffix, std::string_view le, double value, std::string& out) {
    out.append(series.family);
    out.append(suffix);
    append_labels(series.names, series.values, le, out);
    out.push_back(' ');
    append_number(value, out);
    out.push_back('\n');
}

void append_histogram(Series const& series, Histogram const& histogram, std::string& out) {
    std::uint64_t cumulative = 0;
    for (std::size_t i = 0; i <= histogram.bounds().size(); ++i) {
        cumulative += histogram.bucket(i);
        std::string le;
        append_number(i < histogram.bounds().size() ? histogram.bounds()[i] : std::numeric_limits<double>::infinity(),
                      le);
        append_sample(series, "_bucket", le, static_cast<double>(cumulative), out);
    }
    append_sample(series, "_sum", {}, histogram.sum(), out);
    // From the same reading of the buckets, so that _count equals le="+Inf".
    append_sample(series, "_count", {}, static_cast<double>(cumulative), out);
}

enum class Kind : std::uint8_t { counter, gauge, histogram };

std::string_view to_string(Kind kind) {
    switch (kind) {
        case Kind::counter: return "counter";
        case Kind::gauge: return "gauge";
        case Kind::histogram: return "histogram";
    }
    return "untyped";
}

using Child = std::variant<std::unique_ptr<Counter>, std::unique_ptr<Gauge>, std::unique_ptr<Histogram>>;

struct Family {
    Kind kind{};
    std::string help;
    std::vector<std::string> label_names;
    std::vector<double> bounds;
    std::map<Labels, Child> children;
};

Child make_child(Family const& family) {
    switch (family.kind) {
        case Kind::counter: return std::make_unique<Counter>();
        case Kind::gauge: return std::make_unique<Gauge>();
        case Kind::histogram: break;
    }
    return std::make_unique<Histogram>(family.bounds);
}

void append_family(std::string const& name, Family const& family, std::string& out) {
    out.append("# HELP ").append(name).push_back(' ');
    append_escaped(family.help, false, out);
    out.append("\n# TYPE ").append(name).push_back(' ');
    out.append(to_string(family.kind)).push_back('\n');
    for (auto const& [labels, child] : family.children) {
        Series const series{.family = name, .names = family.label_names, .values = labels};
        if (auto const* counter = std::get_if<std::unique_ptr<Counter>>(&child)) {
            append_sample(series, {}, {}, (*counter)->value(), out);
        } else if (auto const* gauge = std::get_if<std::unique_ptr<Gauge>>(&child)) {
            append_sample(series, {}, {}, (*gauge)->value(), out);
        } else {
            append_histogram(series, *std::get<std::unique_ptr<Histogram>>(child), out);
        }
    }
}

}  // namespace

Histogram::Histogram(std::vector<double> bounds)
    : bounds_(std::move(bounds)), counts_(std::make_unique<std::atomic<std::uint64_t>[]>(bounds_.size() + 1)) {
    HEARTH_ASSERT(std::ranges::adjacent_find(bounds_, std::greater_equal<>()) == bounds_.end(),
                  "histogram bounds ascend");
}

void Histogram::observe(double v) {
    // Prometheus' buckets include their upper bound; NaN falls into +Inf.
    auto const bound = std::isnan(v) ? bounds_.end() : std::ranges::lower_bound(bounds_, v);
    counts_[static_cast<std::size_t>(bound - bounds_.begin())].fetch_add(1, std::memory_order_relaxed);
    sum_.fetch_add(v, std::memory_order_relaxed);
}

std::uint64_t Histogram::count() const {
    std::uint64_t total = 0;
    for (std::size_t i = 0; i <= bounds_.size(); ++i) total += bucket(i);
    return total;
}

struct Registry::Impl {
    explicit Impl(std::size_t max) : series_max(max) {}

    struct Declaration {
        Kind kind;
        std::string_view name;
        std::string_view help;
        std::vector<std::string> const& label_names;
        std::vector<double> const& bounds;
    };

    Child& child(Declaration const& declaration, Labels const& labels) {
        HEARTH_ASSERT(labels.size() == declaration.label_names.size(), "as many label values as names");
        std::lock_guard const lock(mutex);
        Family& family = find_or_declare(declaration);
        if (auto const found = family.children.find(labels); found != family.children.end()) return found->second;
        bool const full = family.children.size() >= series_max;
        Labels const& kept = full ? Labels(labels.size(), "other") : labels;
        auto const [place, added] = family.children.try_emplace(kept);
        if (added) place->second = make_child(family);
        return place->second;
    }

    Family& find_or_declare(Declaration const& declaration) {
        auto const found = families.find(declaration.name);
        if (found == families.end()) {
            HEARTH_ASSERT(is_name(declaration.name, true), "a metric's name follows Prometheus' grammar");
            for (auto const& label : declaration.label_names) HEARTH_ASSERT(is_name(label, false), "so does a label's");
            return families
                .emplace(declaration.name, Family{.kind = declaration.kind,
                                                  .help = std::string(declaration.help),
                                                  .label_names = declaration.label_names,
                                                  .bounds = declaration.bounds,
                                                  .children = {}})
                .first->second;
        }
        Family& family = found->second;
        HEARTH_ASSERT(family.kind == declaration.kind && family.label_names == declaration.label_names &&
                          family.bounds == declaration.bounds,
                      "a metric keeps its kind, label names and bounds");
        return family;
    }

    std::size_t const series_max;
    std::mutex mutex;  // guards everything below; never held while a callback runs
    std::map<std::string, Family, std::less<>> families;
    std::vector<std::shared_ptr<std::function<void()>>> callbacks;
};

Registry::Registry(std::size_t series_max) : impl_(std::make_unique<Impl>(series_max)) {}
Registry::~Registry() = default;

Counter& Registry::counter(std::string_view name, std::string_view help, std::vector<std::string> const& label_names,
                           Labels const& labels) {
    Child& child = impl_->child({Kind::counter, name, help, label_names, {}}, labels);
    return *std::get<std::unique_ptr<Counter>>(child);
}

Gauge& Registry::gauge(std::string_view name, std::string_view help, std::vector<std::string> const& label_names,
                       Labels const& labels) {
    Child& child = impl_->child({Kind::gauge, name, help, label_names, {}}, labels);
    return *std::get<std::unique_ptr<Gauge>>(child);
}

Histogram& Registry::histogram(std::string_view name, std::string_view help, std::vector<double> const& bounds,
                               std::vector<std::string> const& label_names, Labels const& labels) {
    Child& child = impl_->child({Kind::histogram, name, help, label_names, bounds}, labels);
    return *std::get<std::unique_ptr<Histogram>>(child);
}

void Registry::forget(std::string_view label_name, std::string_view value) {
    std::lock_guard const lock(impl_->mutex);
    for (auto& [name, family] : impl_->families) {
        auto const label = std::ranges::find(family.label_names, label_name);
        if (label == family.label_names.end()) continue;
        auto const index = static_cast<std::size_t>(label - family.label_names.begin());
        std::erase_if(family.children, [&](auto const& child) { return child.first[index] == value; });
    }
}

void Registry::on_collect(std::function<void()> callback) {
    std::lock_guard const lock(impl_->mutex);
    impl_->callbacks.push_back(std::make_shared<std::function<void()>>(std::move(callback)));
}

std::string Registry::render() {
    std::vector<std::shared_ptr<std::function<void()>>> callbacks;
    {
        std::lock_guard const lock(impl_->mutex);
        callbacks = impl_->callbacks;
    }
    for (auto const& callback : callbacks) (*callback)();
    std::string out;
    std::lock_guard const lock(impl_->mutex);
    for (auto const& [name, family] : impl_->families) append_family(name, family, out);
    return out;
}

}  // namespace hearth::telemetry
