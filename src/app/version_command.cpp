#include <cstdio>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "app/cli.h"
#include "app/commands.h"
#include "llama/cpu_variants.h"
#include "llama/libllama_backend.h"

namespace hearth::app {

int version(bool json) {
    auto const upstream = llama::upstream_version();
    auto const variants = llama::cpu_variants();
    auto const chosen = llama::choose_cpu_variant("");
    auto const in_use = chosen ? chosen.value() : std::string();
    if (json) {
        auto list = nlohmann::ordered_json::array();
        for (auto const& variant : variants)
            list.push_back(
                {{"name", variant.name}, {"runs_here", variant.runnable}, {"chosen", variant.name == in_use}});
        fmt::print(
            "{}\n",
            nlohmann::ordered_json{{"hearth", HEARTH_VERSION}, {"llama.cpp", upstream}, {"cpu_variants", list}}.dump(
                2));
        return kExitOk;
    }
    fmt::print("Hearth {}\nllama.cpp {}\nCPU kernels:", HEARTH_VERSION, upstream);
    for (auto const& variant : variants)
        fmt::print(" {}{}", variant.name,
                   variant.name == in_use ? " (in use)"
                   : variant.runnable     ? ""
                                          : " (not on this machine)");
    fmt::print("\n");
    return kExitOk;
}

}  // namespace hearth::app
