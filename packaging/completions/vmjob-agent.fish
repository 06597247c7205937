# fish completion for vmjob-agent
set -l commands run check install doctor status
complete -c vmjob-agent -f
complete -c vmjob-agent -n "not __fish_seen_subcommand_from $commands" -a run -d 'Run the job of this VM and report it (the default)'
complete -c vmjob-agent -n "not __fish_seen_subcommand_from $commands" -a check -d 'Read a job, say what would run or what is wrong'
complete -c vmjob-agent -n "not __fish_seen_subcommand_from $commands" -a install -d 'Copy the program, write its unit, start it at each boot'
complete -c vmjob-agent -n "not __fish_seen_subcommand_from $commands" -a doctor -d 'Can this VM run a job and report it?'
complete -c vmjob-agent -n "not __fish_seen_subcommand_from $commands" -a status -d 'Print what the journal says, as JSON'
complete -c vmjob-agent -n '__fish_seen_subcommand_from check' -F
complete -c vmjob-agent -n '__fish_seen_subcommand_from install' -l now -d 'Start the unit now'
complete -c vmjob-agent -n '__fish_seen_subcommand_from install' -l prefix -xa '(__fish_complete_directories)' -d 'The program goes to bin below it'
complete -c vmjob-agent -l metadata-host -x -d 'The metadata server'
complete -c vmjob-agent -l docker-host -x -d 'The Docker engine'
complete -c vmjob-agent -l state-dir -xa '(__fish_complete_directories)' -d 'Journal and report'
complete -c vmjob-agent -l callback-allow -x -d 'Also send the token to this host'
complete -c vmjob-agent -l compute-endpoint -x -d 'Where a VM deletes itself'
complete -c vmjob-agent -l secretmanager-endpoint -x -d 'Where secrets are read'
complete -c vmjob-agent -l storage-endpoint -x -d 'Cloud Storage'
complete -c vmjob-agent -l log-format -xa 'text json' -d "The agent's own log"
complete -c vmjob-agent -l engine-patience -x -d 'How long to wait for Docker'
complete -c vmjob-agent -l pull-patience -x -d 'How long a pull may stand still'
complete -c vmjob-agent -l metadata-patience -x -d 'How long to wait for metadata'
complete -c vmjob-agent -l gpu-patience -x -d "How long to wait for NVIDIA's driver"
complete -c vmjob-agent -l storage-patience -x -d 'How long to wait for Cloud Storage'
complete -c vmjob-agent -s h -l help -d 'Print a summary'
complete -c vmjob-agent -s V -l version -d 'Print the version'
