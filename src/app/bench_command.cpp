#include <fstream>

#include <fmt/format.h>

#include "app/cli.h"
#include "app/commands.h"
#include "app/environment.h"
#include "bench/machine.h"
#include "bench/serve.h"
#include "bench/tree.h"

namespace hearth::app {
namespace {

// Text or JSON to stdout, JSON to a file as well if one is named.
template <typename Report>
int deliver(Report const& result, bool json, std::string const& output) {
    auto const as_json = bench::to_json(result);
    int const written = write_out((json ? as_json : bench::to_text(result)) + '\n');
    if (output.empty()) return written;
    std::ofstream file(output);
    file << as_json << '\n';
    file.flush();
    return file ? written : report(Error(Code::io, fmt::format("cannot write {}", output)));
}

}  // namespace

int bench_serve(BenchServeFlags const& flags) {
    bench::ServeOptions options;
    for (auto const& [name, value] : flags.options) {
        if (auto const set = bench::set_option(options, name, value); !set) return report(set.error());
    }
    auto const result = bench::run_serve(options);
    if (!result) {
        auto const code = report(result.error());
        return result.error().code == Code::unavailable || result.error().code == Code::io ? int{kExitUnreachable}
                                                                                           : code;
    }
    return deliver(result.value(), flags.json, flags.output);
}

int bench_machine(BenchMachineFlags const& flags) {
    auto const result = bench::run_machine({});
    return result ? deliver(result.value(), flags.json, flags.output) : report(result.error());
}

int bench_tree(BenchTreeFlags const& flags) {
    auto const result =
        bench::run_tree({.tokens = flags.tokens, .prompt = flags.prompt, .lookups = flags.lookups, .seed = flags.seed});
    return result ? deliver(result.value(), flags.json, flags.output) : report(result.error());
}

}  // namespace hearth::app
