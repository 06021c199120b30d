# fish completion for perdure

set -l commands serve check run runs review worker supervise sessions checkpoints simulate docs version help

complete -c perdure -f
complete -c perdure -n "not __fish_seen_subcommand_from $commands" -a serve -d 'run the gateway'
complete -c perdure -n "not __fish_seen_subcommand_from $commands" -a check -d 'check a configuration and show what it means'
complete -c perdure -n "not __fish_seen_subcommand_from $commands" -a run -d 'do a plan, task by task'
complete -c perdure -n "not __fish_seen_subcommand_from $commands" -a runs -d 'show runs, pause, resume and cancel them'
complete -c perdure -n "not __fish_seen_subcommand_from $commands" -a review -d 'decide what waits for a person'
complete -c perdure -n "not __fish_seen_subcommand_from $commands" -a worker -d 'do tasks of runs'
complete -c perdure -n "not __fish_seen_subcommand_from $commands" -a supervise -d 'keep an agent going'
complete -c perdure -n "not __fish_seen_subcommand_from $commands" -a sessions -d 'show what calls of a running gateway went through'
complete -c perdure -n "not __fish_seen_subcommand_from $commands" -a simulate -d 'serve simulated providers with faults'
complete -c perdure -n "not __fish_seen_subcommand_from $commands" -a docs -d 'print a reference table'
complete -c perdure -n "not __fish_seen_subcommand_from $commands" -a version -d 'print the version'
complete -c perdure -n "not __fish_seen_subcommand_from $commands" -a help -d 'print the commands'
complete -c perdure -n "not __fish_seen_subcommand_from $commands" -s V -l version -d 'print the version'
complete -c perdure -s h -l help -d 'print the options'

complete -c perdure -n '__fish_seen_subcommand_from serve' -l config -r -F -d 'configuration'
complete -c perdure -n '__fish_seen_subcommand_from serve' -l listen -x -a '127.0.0.1:8080' -d 'listen here'
complete -c perdure -n '__fish_seen_subcommand_from serve' -l log-level -x -a 'error warn info debug' -d 'level of the log'
complete -c perdure -n '__fish_seen_subcommand_from serve' -l log-format -x -a 'text json' -d 'form of the log'
complete -c perdure -n '__fish_seen_subcommand_from serve' -l pid-file -r -F -d 'file for the process id'
complete -c perdure -n '__fish_seen_subcommand_from serve' -l without-providers -d 'no provider is no error'
complete -c perdure -n '__fish_seen_subcommand_from serve' -l for-run -d 'as perdure run starts it: ends where another holds the state folder'

complete -c perdure -n '__fish_seen_subcommand_from check' -F
complete -c perdure -n '__fish_seen_subcommand_from check' -l config -r -F -d 'configuration'

complete -c perdure -n "not __fish_seen_subcommand_from $commands" -a checkpoints -d 'make, list and restore checkpoints of agents'
complete -c perdure -n '__fish_seen_subcommand_from checkpoints' -a 'list show restore resume diff create prune'
complete -c perdure -n '__fish_seen_subcommand_from checkpoints' -l agent -x -d 'whose'
complete -c perdure -n '__fish_seen_subcommand_from checkpoints' -l limit -x -d 'so many, the newest'
complete -c perdure -n '__fish_seen_subcommand_from checkpoints' -l task -x -d 'what it is at'
complete -c perdure -n '__fish_seen_subcommand_from checkpoints' -l step -x -d 'the step'
complete -c perdure -n '__fish_seen_subcommand_from checkpoints' -l milestone -x -d 'a milestone'
complete -c perdure -n '__fish_seen_subcommand_from checkpoints' -l reason -x -a 'step interval milestone before_risky after_risky manual' -d 'why'
complete -c perdure -n '__fish_seen_subcommand_from checkpoints' -l state -x -d 'the state, JSON'
complete -c perdure -n '__fish_seen_subcommand_from checkpoints' -l state-file -r -d 'the state, JSON'
complete -c perdure -n '__fish_seen_subcommand_from checkpoints' -l dry -d 'only says what would go'
complete -c perdure -n '__fish_seen_subcommand_from checkpoints' -l json -d 'as the API answers'
complete -c perdure -n '__fish_seen_subcommand_from checkpoints' -l url -x -a 'http://127.0.0.1:8080' -d 'where perdure runs'
complete -c perdure -n '__fish_seen_subcommand_from checkpoints' -l key-env -x -a '(set -nx)' -d 'the variable that holds an admin key'
complete -c perdure -n '__fish_seen_subcommand_from checkpoints' -l database -r -d 'no perdure is asked'
complete -c perdure -n '__fish_seen_subcommand_from checkpoints' -l snapshots -r -d 'no perdure is asked'
complete -c perdure -n '__fish_seen_subcommand_from run' -F
complete -c perdure -n '__fish_seen_subcommand_from run' -l url -x -a 'http://127.0.0.1:8080' -d 'where perdure runs'
complete -c perdure -n '__fish_seen_subcommand_from run' -l key-env -x -a '(set -nx)' -d 'the variable that holds an admin key'
complete -c perdure -n '__fish_seen_subcommand_from run' -l workers -x -d 'processes that do its tasks'
complete -c perdure -n '__fish_seen_subcommand_from run' -l config -r -F -d 'configuration'
complete -c perdure -n '__fish_seen_subcommand_from run' -l name -x -d 'of the run'
complete -c perdure -n '__fish_seen_subcommand_from run' -l again -d 'begin it anew'
complete -c perdure -n '__fish_seen_subcommand_from run' -l check -d 'say whether the plan is well formed, show its tasks, and end'
complete -c perdure -n '__fish_seen_subcommand_from run' -l resume -x -d 'go on with this run'
complete -c perdure -n '__fish_seen_subcommand_from run' -l dir -x -a '(__fish_complete_directories)' -d 'where its tasks work'
complete -c perdure -n '__fish_seen_subcommand_from run' -l detach -d 'hand it over and end'
complete -c perdure -n '__fish_seen_subcommand_from run' -l json -d 'JSON lines'
complete -c perdure -n '__fish_seen_subcommand_from run' -l lease -x -d 'without a sign of life for so long a task is given to another'
complete -c perdure -n '__fish_seen_subcommand_from run' -l log -r -F -d 'file for what its processes do'

complete -c perdure -n '__fish_seen_subcommand_from runs' -a 'list show events pause resume cancel'
complete -c perdure -n '__fish_seen_subcommand_from runs' -l url -x -a 'http://127.0.0.1:8080' -d 'where perdure runs'
complete -c perdure -n '__fish_seen_subcommand_from runs' -l key-env -x -a '(set -nx)' -d 'the variable that holds an admin key'
complete -c perdure -n '__fish_seen_subcommand_from runs' -l why -x -d 'said with the run'
complete -c perdure -n '__fish_seen_subcommand_from runs' -l limit -x -d 'so many, the newest'
complete -c perdure -n '__fish_seen_subcommand_from runs' -l json -d 'as the API answers'

complete -c perdure -n '__fish_seen_subcommand_from review' -a 'list show retry accept edit drop'
complete -c perdure -n '__fish_seen_subcommand_from review' -l url -x -a 'http://127.0.0.1:8080' -d 'where perdure runs'
complete -c perdure -n '__fish_seen_subcommand_from review' -l key-env -x -a '(set -nx)' -d 'the variable that holds an admin key'
complete -c perdure -n '__fish_seen_subcommand_from review' -l value -x -d 'the output, or members that replace'
complete -c perdure -n '__fish_seen_subcommand_from review' -l who -x -d 'who decides'
complete -c perdure -n '__fish_seen_subcommand_from review' -l json -d 'as the API answers'

complete -c perdure -n '__fish_seen_subcommand_from worker' -l url -x -a 'http://127.0.0.1:8080' -d 'where perdure runs'
complete -c perdure -n '__fish_seen_subcommand_from worker' -l key-env -x -a '(set -nx)' -d 'the variable that holds an admin key'
complete -c perdure -n '__fish_seen_subcommand_from worker' -l database -x -d 'take tasks from PostgreSQL'
complete -c perdure -n '__fish_seen_subcommand_from worker' -l run -x -d 'only tasks of this run'
complete -c perdure -n '__fish_seen_subcommand_from worker' -l kinds -x -a 'llm command agent' -d 'only tasks of these kinds'
complete -c perdure -n '__fish_seen_subcommand_from worker' -l name -x -d 'what it is called'
complete -c perdure -n '__fish_seen_subcommand_from worker' -l dir -x -a '(__fish_complete_directories)' -d 'where tasks work'
complete -c perdure -n '__fish_seen_subcommand_from worker' -l lease -x -d 'without a sign of life for so long its task is given to another'
complete -c perdure -n '__fish_seen_subcommand_from worker' -l drain -x -d 'for the task at hand after SIGTERM'
complete -c perdure -n '__fish_seen_subcommand_from worker' -l idle -x -d 'end without a task for so long'
complete -c perdure -n '__fish_seen_subcommand_from supervise' -l stall -x -d 'no progress for so long: started again'
complete -c perdure -n '__fish_seen_subcommand_from supervise' -l check -x -d 'an end with status 0 is believed when this ends with 0'
complete -c perdure -n '__fish_seen_subcommand_from supervise' -l check-limit -x -d 'a check that takes longer is ended, and has failed'
complete -c perdure -n '__fish_seen_subcommand_from supervise' -l resume-args -x -d 'words added from the second start on'
complete -c perdure -n '__fish_seen_subcommand_from supervise' -l restarts -x -d 'so many within the window, no more'
complete -c perdure -n '__fish_seen_subcommand_from supervise' -l window -x -d 'in which restarts are counted'
complete -c perdure -n '__fish_seen_subcommand_from supervise' -l alert-command -x -d 'run when it is paused'
complete -c perdure -n '__fish_seen_subcommand_from supervise' -l checkpoint -x -d 'between checkpoints'
complete -c perdure -n '__fish_seen_subcommand_from supervise' -l grace -x -d 'from SIGTERM to SIGKILL'
complete -c perdure -n '__fish_seen_subcommand_from supervise' -l pause -x -d 'before the first restart'
complete -c perdure -n '__fish_seen_subcommand_from supervise' -l hang -x -d 'a keeper silent for so long is ended'
complete -c perdure -n '__fish_seen_subcommand_from supervise' -l dir -x -a '(__fish_complete_directories)' -d 'where it works'
complete -c perdure -n '__fish_seen_subcommand_from supervise' -l agent -x -d 'its name'
complete -c perdure -n '__fish_seen_subcommand_from supervise' -l task -x -d 'what its checkpoints say'
complete -c perdure -n '__fish_seen_subcommand_from supervise' -l again -x -d 'it was begun earlier: why it goes on'
complete -c perdure -n '__fish_seen_subcommand_from supervise' -l client -x -d 'only calls of this client key are its own'
complete -c perdure -n '__fish_seen_subcommand_from supervise' -l no-gateway -d 'files and output are all that is seen'
complete -c perdure -n '__fish_seen_subcommand_from supervise' -l no-terminal -d 'it has no terminal'
complete -c perdure -n '__fish_seen_subcommand_from supervise' -l url -x -a 'http://127.0.0.1:8080' -d 'where perdure runs'
complete -c perdure -n '__fish_seen_subcommand_from supervise' -l key-env -x -a '(set -nx)' -d 'the variable that holds an admin key'
complete -c perdure -n '__fish_seen_subcommand_from supervise' -l log-level -x -a 'error warn info debug' -d 'what is logged'

complete -c perdure -n '__fish_seen_subcommand_from sessions' -a 'list show'
complete -c perdure -n '__fish_seen_subcommand_from sessions' -l url -x -a 'http://127.0.0.1:8080' -d 'where perdure runs'
complete -c perdure -n '__fish_seen_subcommand_from sessions' -l key-env -x -a '(set -nx)' -d 'the variable that holds an admin key'
complete -c perdure -n '__fish_seen_subcommand_from sessions' -l limit -x -d 'so many, the ones used last'
complete -c perdure -n '__fish_seen_subcommand_from sessions' -l json -d 'as the API answers'

complete -c perdure -n '__fish_seen_subcommand_from docs' -a 'settings metrics failures translation'

function __perdure_names
    perdure simulate --reference 2>/dev/null | awk -v want="$argv[1]:" '/^[A-Z]/ {on = $0 == want} on && /^  [a-z]/ {print $1}'
end

# NAME:PORT,KEY=VALUE,... : what may stand behind the last comma
function __perdure_spec
    set -l word (commandline -ct)
    string match -q -- '*,*' $word; or return
    set -l head (string replace -r '[^,]*$' '' -- $word)
    switch (string replace -r '.*,' '' -- $word)
        case 'fault=*'
            for fault in (__perdure_names Faults)
                echo $head"fault=$fault"
            end
        case 'style=*'
            for style in (__perdure_names Styles)
                echo $head"style=$style"
            end
        case 'framing=*'
            for framing in (__perdure_names Framings)
                echo $head"framing=$framing"
            end
        case '*'
            for key in style framing models answer tokens reasoning parallel concurrency ttft token_delay jitter drift key up down fault
                echo $head$key=
            end
    end
end
complete -c perdure -n '__fish_seen_subcommand_from simulate' -l provider -x -a '(__perdure_spec)' -d 'a simulated provider'
complete -c perdure -n '__fish_seen_subcommand_from simulate' -l script -r -F -d 'providers, faults and turns, as JSON'
complete -c perdure -n '__fish_seen_subcommand_from simulate' -l seed -x -d 'same seed, same faults'
complete -c perdure -n '__fish_seen_subcommand_from simulate' -l host -x -d 'listen here'
complete -c perdure -n '__fish_seen_subcommand_from simulate' -l control -x -d 'port where /sim answers too'
complete -c perdure -n '__fish_seen_subcommand_from simulate' -l tokens -x -d 'words of an answer'
complete -c perdure -n '__fish_seen_subcommand_from simulate' -l ttft -x -d 'wait before the first token'
complete -c perdure -n '__fish_seen_subcommand_from simulate' -l token-delay -x -d 'wait between tokens'
complete -c perdure -n '__fish_seen_subcommand_from simulate' -l jitter -x -d 'both waits vary by this share'
complete -c perdure -n '__fish_seen_subcommand_from simulate' -l verbose -d 'a line for each request'
complete -c perdure -n '__fish_seen_subcommand_from simulate' -l reference -d 'print keys, styles, faults and framings'
