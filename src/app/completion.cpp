#include "app/completion.h"

#include <fmt/format.h>
#include <CLI/CLI.hpp>

namespace hearth::app {
namespace {

struct Command {
    std::string path;         // "bench serve"; empty for the program itself
    std::string description;
    std::vector<std::string> words;  // flags and subcommands
};

void collect(CLI::App const& app, std::string const& path, std::vector<Command>& out) {
    Command command{path, app.get_description(), {}};
    for (auto const* option : app.get_options()) {
        for (auto const& name : option->get_lnames()) command.words.push_back("--" + name);
        for (auto const& name : option->get_snames()) command.words.push_back("-" + name);
    }
    std::vector<CLI::App const*> visible;
    for (auto const* sub : app.get_subcommands([](CLI::App const* s) { return !s->get_group().empty(); })) {
        command.words.push_back(sub->get_name());
        visible.push_back(sub);
    }
    out.push_back(std::move(command));
    for (auto const* sub : visible) collect(*sub, path.empty() ? sub->get_name() : path + " " + sub->get_name(), out);
}

std::string joined(std::vector<std::string> const& words) { return fmt::format("{}", fmt::join(words, " ")); }

// The words typed so far that are not flags select the command.
std::string bash(std::vector<Command> const& commands) {
    std::string cases;
    for (auto const& command : commands)
        cases += fmt::format("    \"{}\") words=\"{}\" ;;\n", command.path, joined(command.words));
    return fmt::format(
        R"(# bash completion for hearth: source this, or install it as
# ~/.local/share/bash-completion/completions/hearth
_hearth() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" path="" word words=""
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case "$word" in -*) continue ;; esac
    case "{}" in *";${{path:+$path }}$word;"*) path="${{path:+$path }}$word" ;; esac
  done
  case "$path" in
{}  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  case "$current" in -*) ;; *) COMPREPLY+=($(compgen -f -- "$current")) ;; esac
}}
complete -o filenames -F _hearth hearth
)",
        [&] {
            std::string paths = ";";
            for (auto const& command : commands) paths += command.path + ";";
            return paths;
        }(),
        cases);
}

std::string zsh(std::vector<Command> const& commands) {
    return "#compdef hearth\nautoload -U +X bashcompinit && bashcompinit\n" + bash(commands);
}

// True where the words of `path` were typed, and `serve` is not the one of `bench serve`.
std::string fish_condition(std::string const& path, std::vector<Command> const& commands) {
    if (path.empty()) return "__fish_use_subcommand";
    auto const space = path.find(' ');
    auto const seen = [](std::string_view word) { return fmt::format("__fish_seen_subcommand_from {}", word); };
    if (space != std::string::npos) return seen(path.substr(0, space)) + "; and " + seen(path.substr(space + 1));
    auto condition = seen(path);
    for (auto const& other : commands) {
        if (other.path.ends_with(' ' + path))
            condition += "; and not " + seen(other.path.substr(0, other.path.find(' ')));
    }
    return condition;
}

std::string fish(std::vector<Command> const& commands) {
    std::string out = "# fish completion for hearth: install as ~/.config/fish/completions/hearth.fish\n";
    for (auto const& command : commands) {
        auto const condition = fish_condition(command.path, commands);
        for (auto const& word : command.words) {
            if (word.starts_with("--")) {
                out += fmt::format("complete -c hearth -n '{}' -l {}\n", condition, word.substr(2));
            } else if (word.starts_with("-")) {
                out += fmt::format("complete -c hearth -n '{}' -s {}\n", condition, word.substr(1));
            } else {
                out += fmt::format("complete -c hearth -n '{}' -a {}\n", condition, word);
            }
        }
    }
    return out;
}

}  // namespace

Result<std::string> completion_script(CLI::App const& app, std::string const& shell) {
    std::vector<Command> commands;
    collect(app, "", commands);
    if (shell == "bash") return bash(commands);
    if (shell == "zsh") return zsh(commands);
    if (shell == "fish") return fish(commands);
    return Error(Code::invalid_argument, fmt::format("no completion for '{}': use bash, zsh or fish", shell), "shell");
}

}  // namespace hearth::app
