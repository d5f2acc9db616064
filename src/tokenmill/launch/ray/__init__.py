"""Workers on a Ray cluster: one that is there, or one that is started on this machine for the run.

Ray is spoken to by an agent, a child process of the driver (`agent`): it connects, places an actor for each worker, and
says what becomes of them. So the driver never imports Ray, never waits for it, and can end it by closing a pipe; and
when the driver dies, however it dies, that pipe closes too. Each actor (`holder`) starts the ranks of one worker beside
itself, on the node where Ray placed it; they join the run's door over TCP as all workers do.
"""
